// Draws the portraits example: every head once as it is (64x64), and once with each part in its class colour.
//
//   node render.mjs --out DIR [--few 5] [--test 150] [--unlabelled 4000] [--seed portraits-19]
//
// Writes DIR/{few,test}/{images,parts}/*.png and DIR/unlabelled/images/*.png. `parts` are 256x256 drawings without
// antialiasing; `pack.py` reduces them to 64x64 masks and packs everything. The few-label heads are the first of the
// unlabelled ones, so asking for more unlabelled images never changes an image that is already there.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createAvatar } from "@dicebear/core";
import * as adventurer from "@dicebear/adventurer";
import { Resvg } from "@resvg/resvg-js";

const SIZE = 64;
const PART_SIZE = 256; // 4x4 samples behind every mask pixel
const VIEW = 762; // side of the style's own viewBox

const classes = JSON.parse(readFileSync(new URL("classes.json", import.meta.url)));
const colourOf = Object.fromEntries(classes.map((c) => [c.name, c.colour]));

// The style's layers, bottom to top, and the class each is labelled as. Moustaches are hair; blush, freckles and
// birthmarks are skin.
const LAYERS = [
  ["eyes", "eyes"],
  ["eyebrows", "brows"],
  ["mouth", "mouth"],
  ["features", ({ features }) => (features === "mustache" ? "hair" : "face")],
  ["glasses", "accessories"],
  ["hair", "hair"],
  ["earrings", "accessories"],
];
const LAYER_START = '<g transform="translate(-161 -83)">';

// Left out: three hairs whose flowers share one outline with the hair, and a shaved head that is only a faint shade.
const LEFT_OUT = new Set(["long03", "long08", "long18", "short19"]);
const HAIRS = adventurer.schema.properties.hair.items.enum.filter((name) => !LEFT_OUT.has(name));

const SKINS = ["f8dfc8", "f2d3b1", "ecad80", "c98450", "9e5622", "763900", "4f2a12"];
const HAIR_COLOURS = adventurer.schema.properties.hairColor.default;
const BACKDROPS = [
  ...["8fb8de", "5c7fa3", "d9c27a", "7fa37a", "b56b6b", "e6e0d4", "3d4552", "c79fc2", "6d5a4b"],
  ...SKINS,
  ...HAIR_COLOURS,
];

/** A source of named draws: the same seed and name always give the same number in [0, 1). */
function drawsFrom(seed) {
  const unit = (name) => createHash("sha256").update(`${seed}/${name}`).digest().readUInt32BE(0) / 2 ** 32;
  return {
    between: (name, low, high) => low + (high - low) * unit(name),
    chance: (name, probability) => unit(name) < probability,
    pick: (name, items) => items[Math.floor(unit(name) * items.length)],
  };
}

const channels = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
const hexOf = (rgb) =>
  rgb.map((v) => Math.round(Math.min(255, Math.max(0, v))).toString(16).padStart(2, "0")).join("");

/** `hex`, made lighter or darker and shifted a little in every channel. */
function varied(draws, name, hex, amount) {
  const light = draws.between(`${name}.light`, -amount, amount);
  return hexOf(channels(hex).map((v, i) => v + light + draws.between(`${name}.${i}`, -amount / 2, amount / 2)));
}

/** A skin colour anywhere on the ramp from light to dark, not only at its stops. */
function skinColour(draws) {
  const at = draws.between("skin", 0, SKINS.length - 1.001);
  const [from, to] = [channels(SKINS[Math.floor(at)]), channels(SKINS[Math.floor(at) + 1])];
  return varied(draws, "skin", hexOf(from.map((v, i) => v + (to[i] - v) * (at % 1))), 12);
}

function portraitOptions(seed, draws) {
  return {
    seed,
    clip: false,
    hair: HAIRS,
    hairProbability: 96,
    glassesProbability: 40,
    earringsProbability: 50,
    featuresProbability: 35,
    hairColor: [varied(draws, "hair", draws.pick("hair", HAIR_COLOURS), 25)],
    skinColor: [skinColour(draws)],
    flip: draws.chance("flip", 0.5),
    scale: Math.round(draws.between("scale", 95, 140)),
    rotate: Math.round(draws.between("rotate", -20, 20)),
    translateX: Math.round(draws.between("x", -12, 12)),
    translateY: Math.round(draws.between("y", -8, 12)),
  };
}

/** A two-colour wash with a few soft-edged or hard shapes, some of them in skin and hair colours. */
function backdrop(draws) {
  const colour = (name) => `#${varied(draws, name, draws.pick(name, BACKDROPS), 20)}`;
  const angle = draws.between("backdrop.angle", 0, 360).toFixed(1);
  let shapes = "";
  for (let i = 0; i < Math.floor(draws.between("shapes", 0, 6)); i++) {
    const at = (key, low, high) => draws.between(`shape${i}.${key}`, low, high).toFixed(1);
    const place = `transform="translate(${at("x", 0, VIEW)} ${at("y", 0, VIEW)}) rotate(${at("turn", 0, 180)})"`;
    const look = `${place} fill="${colour(`shape${i}`)}" fill-opacity="${at("opacity", 0.4, 1)}"`;
    const [w, h] = [Number(at("w", 40, 330)), Number(at("h", 40, 330))];
    const size = `x="${-w / 2}" y="${-h / 2}" width="${w}" height="${h}"`;
    shapes += draws.chance(`shape${i}.round`, 0.5)
      ? `<ellipse rx="${w / 2}" ry="${h / 2}" ${look}/>`
      : `<rect ${size} rx="${at("corner", 0, 40)}" ${look}/>`;
  }
  return (
    `<defs><linearGradient id="wash" gradientTransform="rotate(${angle} 0.5 0.5)">` +
    `<stop stop-color="${colour("wash0")}"/><stop offset="1" stop-color="${colour("wash1")}"/>` +
    `</linearGradient></defs><rect width="${VIEW}" height="${VIEW}" fill="url(#wash)"/>${shapes}`
  );
}

/** Light falling from one side over the whole picture: dark on one edge, bright on the other. */
function lighting(draws) {
  const angle = draws.between("light.angle", 0, 360).toFixed(1);
  const [dark, bright] = [draws.between("dark", 0, 0.5), draws.between("bright", 0, 0.3)].map((v) => v.toFixed(3));
  return (
    `<defs><linearGradient id="light" gradientTransform="rotate(${angle} 0.5 0.5)">` +
    `<stop stop-color="#000" stop-opacity="${dark}"/><stop offset=".5" stop-color="#000" stop-opacity="0"/>` +
    `<stop offset=".5" stop-color="#fff" stop-opacity="0"/><stop offset="1" stop-color="#fff" stop-opacity="${bright}"/>` +
    `</linearGradient></defs><rect width="${VIEW}" height="${VIEW}" fill="url(#light)"/>`
  );
}

const painted = (markup, colour) => markup.replace(/fill="#[^"]*"/g, `fill="${colour}"`);

/** The style with every layer in its class colour and no antialiasing. */
const partsStyle = {
  ...adventurer,
  create(props) {
    const result = adventurer.create(props);
    const [base, ...layers] = result.body.split(LAYER_START);
    if (layers.length !== LAYERS.length) throw new Error(`expected ${LAYERS.length} layers, found ${layers.length}`);
    const drawn = result.extra();
    const body = layers.map((markup, i) => {
      const [, part] = LAYERS[i];
      return LAYER_START + painted(markup, colourOf[typeof part === "function" ? part(drawn) : part]);
    });
    return {
      ...result,
      attributes: { ...result.attributes, "shape-rendering": "crispEdges" },
      body: painted(base, colourOf.face) + body.join(""),
    };
  },
};

const toPng = (svg, size) => new Resvg(svg, { fitTo: { mode: "width", value: size } }).render().asPng();

function picture(seed) {
  const draws = drawsFrom(seed);
  const svg = createAvatar(adventurer, portraitOptions(seed, draws)).toString();
  return toPng(
    svg.replace("</metadata>", `</metadata>${backdrop(draws)}`).replace(/<\/svg>$/, `${lighting(draws)}</svg>`),
    SIZE,
  );
}

function parts(seed) {
  const svg = createAvatar(partsStyle, portraitOptions(seed, drawsFrom(seed))).toString();
  const ground = `<rect width="${VIEW}" height="${VIEW}" fill="${colourOf.background}"/>`;
  return toPng(svg.replace("</metadata>", `</metadata>${ground}`), PART_SIZE);
}

function write(folder, split, count, { nameOf, withParts }) {
  const at = (kind) => join(folder, split, kind);
  mkdirSync(at("images"), { recursive: true });
  if (withParts) mkdirSync(at("parts"), { recursive: true });
  for (let i = 0; i < count; i++) {
    const name = nameOf(i);
    writeFileSync(join(at("images"), `${name}.png`), picture(`${seed}/${name}`));
    if (withParts) writeFileSync(join(at("parts"), `${name}.png`), parts(`${seed}/${name}`));
  }
  console.log(`${split}: ${count}`);
}

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    few: { type: "string", default: "5" },
    test: { type: "string", default: "150" },
    unlabelled: { type: "string", default: "0" },
    seed: { type: "string", default: "portraits-19" },
  },
});
if (!values.out) throw new Error("say where to write: --out DIR");
const { out, seed } = values;
const training = (i) => String(i).padStart(5, "0");
const heldOut = (i) => `test-${String(i).padStart(4, "0")}`;
write(out, "few", Number(values.few), { nameOf: training, withParts: true });
write(out, "test", Number(values.test), { nameOf: heldOut, withParts: true });
write(out, "unlabelled", Number(values.unlabelled), { nameOf: training, withParts: false });
