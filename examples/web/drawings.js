// Pictures to begin with, shaded softly as the translator's first style is. Sides are 1 long.

function gradient(context, y0, y1, ...colours) {
  const fill = context.createLinearGradient(0, y0, 0, y1);
  colours.forEach((colour, i) => fill.addColorStop(i / (colours.length - 1), colour));
  return fill;
}

function ellipse(context, x, y, radiusX, radiusY, fill) {
  context.beginPath();
  context.ellipse(x, y, radiusX, radiusY, 0, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
}

export function drawFace(context) {
  ellipse(context, 0.5, 0.5, 0.46, 0.46, gradient(context, 0.04, 0.96, "#fde030", "#fbc51f", "#f2a600"));
  ellipse(context, 0.34, 0.4, 0.065, 0.085, "#422b0d");
  ellipse(context, 0.66, 0.4, 0.065, 0.085, "#422b0d");
  context.beginPath();
  context.arc(0.5, 0.56, 0.26, 0.12 * Math.PI, 0.88 * Math.PI);
  context.lineWidth = 0.055;
  context.lineCap = "round";
  context.strokeStyle = "#422b0d";
  context.stroke();
}

export function drawHeart(context) {
  context.beginPath();
  context.moveTo(0.5, 0.93);
  context.bezierCurveTo(0.3, 0.84, 0.03, 0.6, 0.03, 0.34);
  context.bezierCurveTo(0.03, 0.0, 0.42, -0.02, 0.5, 0.22);
  context.bezierCurveTo(0.58, -0.02, 0.97, 0.0, 0.97, 0.34);
  context.bezierCurveTo(0.97, 0.6, 0.7, 0.84, 0.5, 0.93);
  context.fillStyle = gradient(context, 0.1, 0.93, "#f77fbe", "#f06eaf", "#e0559b");
  context.fill();
  context.save();
  context.translate(0.22, 0.26);
  context.rotate(-0.6);
  ellipse(context, 0, 0, 0.1, 0.055, "#fbb4da");
  context.restore();
}

// The system's own glyph of an emoji; false, and nothing drawn, where it has none in colour.
export function drawGlyph(context, text) {
  const side = 128; // drawn large: small text would follow the pixel grid
  const canvas = new OffscreenCanvas(side, side);
  const glyph = canvas.getContext("2d");
  glyph.font = `${0.8 * side}px "Noto Color Emoji", "Apple Color Emoji", "Segoe UI Emoji", sans-serif`;
  glyph.textAlign = "center";
  glyph.textBaseline = "middle";
  glyph.fillText(text, side / 2, 0.54 * side);
  const { data } = glyph.getImageData(0, 0, side, side);
  const coloured = data.some((value, i) => i % 4 === 0 && Math.abs(value - data[i + 2]) > 32);
  if (coloured) context.drawImage(canvas, 0, 0, 1, 1);
  return coloured;
}
