// The page: loads two exported networks, runs them with LiteRT.js and shows their pictures.
//
// ?seed=7 chooses the first garment. ?check adds the numbers that went in and came out to the page, as JSON,
// for a program that compares them with another runtime.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { drawFace, drawGlyph, drawHeart } from "./drawings.js";
import { normalLatents } from "./latents.js";
import { fromCanvas, toCanvas } from "./pictures.js";

const GENERATOR = "models/dcgan.fashion_mnist.float16.tflite";
const TRANSLATOR = "models/pix2pix.emoji.float16.tflite";
const DRAWINGS = { face: drawFace, heart: drawHeart };

const query = new URLSearchParams(location.search);
const numbers = {}; // what went into the networks and what came out, last time
const element = (id) => document.getElementById(id);

// A network with one input and one output, as a function from a Float32Array to {values, shape, milliseconds}.
async function loadNetwork(url) {
  const model = await loadAndCompile(url, { accelerator: "wasm" });
  const [input] = model.getInputDetails();
  const [output] = model.getOutputDetails();

  async function run(values) {
    const start = performance.now();
    const given = new Tensor(values, input.shape);
    const results = await model.run({ [input.name]: given });
    const result = results[output.name];
    const copy = result.toTypedArray().slice(); // LiteRT.js frees its memory only when told to
    given.delete();
    result.delete();
    return { values: copy, shape: [...output.shape], milliseconds: performance.now() - start };
  }

  // The first call prepares the network; by the next ones the browser learns which code to optimise.
  for (let i = 0; i < 5; i++) await run(new Float32Array(input.shape.reduce((a, b) => a * b)));
  return { run, inputShape: [...input.shape] };
}

async function showGarment(generator) {
  const seed = Number(element("seed").value) || 0;
  const latents = normalLatents(seed, generator.inputShape[1]);
  const { values, shape, milliseconds } = await generator.run(latents);
  toCanvas(values, shape, element("garment"));
  element("garment-time").textContent = `${milliseconds.toFixed(1)} ms`;
  Object.assign(numbers, { latents: [...latents], garment: [...values], garmentShape: shape });
}

async function showTranslation(translator) {
  const picture = fromCanvas(element("source"));
  const { values, shape, milliseconds } = await translator.run(picture);
  toCanvas(values, shape, element("translated"));
  element("translated-time").textContent = `${milliseconds.toFixed(1)} ms`;
  Object.assign(numbers, { picture: [...picture], translated: [...values], translatedShape: shape });
}

function setUpGarment(generator) {
  element("new").addEventListener("click", () => {
    element("seed").value = Number(element("seed").value) + 1;
    showGarment(generator);
  });
  element("seed").addEventListener("input", () => showGarment(generator));
}

function setUpTranslation(translator) {
  const draw = (drawing) => {
    drawing(freshSource(translator));
    return showTranslation(translator);
  };
  const drawFile = async (file) => {
    if (!file?.type.startsWith("image/")) return;
    const picture = await createImageBitmap(file);
    await draw((context) => drawCropped(context, picture));
  };

  for (const button of document.querySelectorAll("[data-drawing]")) {
    button.addEventListener("click", () => draw(DRAWINGS[button.dataset.drawing]));
  }
  element("glyph").addEventListener("input", (event) => {
    // Where the system has no colour emoji, the face is drawn.
    if (event.target.value) draw((context) => drawGlyph(context, event.target.value) || drawFace(context));
  });
  element("file").addEventListener("change", (event) => drawFile(event.target.files[0]));
  setUpDropping(element("source").closest("section"), drawFile);
  return draw(drawFace);
}

function setUpDropping(section, drawFile) {
  const mark = (on) => section.classList.toggle("dropping", on);
  section.addEventListener("dragover", (event) => (event.preventDefault(), mark(true)));
  section.addEventListener("dragleave", () => mark(false));
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    drawFile(event.dataTransfer.files[0]);
  });
}

// The source canvas in the network's size, white, in units of the whole picture's side.
function freshSource(translator) {
  const [, height, width] = translator.inputShape;
  Object.assign(element("source"), { width, height });
  const context = element("source").getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.scale(width, height);
  return context;
}

// The largest square in the middle of a picture.
function drawCropped(context, picture) {
  const side = Math.min(picture.width, picture.height);
  const [left, top] = [(picture.width - side) / 2, (picture.height - side) / 2];
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, side, side, 0, 0, 1, 1);
}

function tellNumbers() {
  const script = document.createElement("script");
  Object.assign(script, { type: "application/json", id: "numbers", textContent: JSON.stringify(numbers) });
  document.body.append(script);
}

function finish(state, message) {
  element("status").textContent = message;
  element("status").className = state;
  document.documentElement.dataset.state = state; // for programs that wait
}

try {
  if (query.has("seed")) element("seed").value = query.get("seed");
  await loadLiteRt("node_modules/@litertjs/core/wasm/");
  const [generator, translator] = await Promise.all([loadNetwork(GENERATOR), loadNetwork(TRANSLATOR)]);
  setUpGarment(generator);
  await showGarment(generator);
  await setUpTranslation(translator);
  if (query.has("check")) tellNumbers();
  finish("ready", "Running on this device's processor with LiteRT.js.");
} catch (error) {
  finish("failed", `It does not run: ${error.message} README.md says how to make the models.`);
  throw error;
}
