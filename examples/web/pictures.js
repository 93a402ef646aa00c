// Between canvases (bytes, red green blue opacity) and networks (floats from -1 to 1, channels last).

// A canvas as the values of one picture (1, height, width, 3).
export function fromCanvas(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const values = new Float32Array(canvas.width * canvas.height * 3);
  for (let pixel = 0; pixel < canvas.width * canvas.height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      values[pixel * 3 + channel] = data[pixel * 4 + channel] / 127.5 - 1;
    }
  }
  return values;
}

// Draws values of shape (1, height, width, 1 or 3); a single channel is grey.
export function toCanvas(values, [, height, width, channels], canvas) {
  Object.assign(canvas, { width, height });
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = values[pixel * channels + Math.min(channel, channels - 1)];
      picture.data[pixel * 4 + channel] = Math.round((value + 1) * 127.5); // ImageData cuts off what is outside
    }
    picture.data[pixel * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
