// The scenario with the Vercel AI SDK. Arguments: address, photo, mask.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const ai = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");

const [address, photoPath, maskPath] = process.argv.slice(2);
const say = (step, ok, told) => console.log(JSON.stringify({ step, ok: Boolean(ok), told: String(told) }));
const openai = createOpenAI({ baseURL: `${address}/v1`, apiKey: "none" });
const model = "unimic-builtin";
const photo = readFileSync(photoPath);
const generateImage = ai.generateImage ?? ai.experimental_generateImage;

const made = await generateImage({ model: openai.image(model), prompt: "a red balloon", size: "512x512", seed: 1 });
say("generate", made.image.uint8Array.length > 1000, `${made.warnings.length} warnings`);

try {
  const done = await generateImage({
    model: openai.image(model), prompt: { text: "a tree", images: [photo], mask: readFileSync(maskPath) },
  });
  say("edit", done.image.uint8Array.length > 1000, "");
} catch (error) {
  say("edit", false, error.message);
}

const content = [{ type: "text", text: "what color is the sky?" }, { type: "image", image: photo }];
const messages = [{ role: "user", content }];
for (const [name, chosen] of [["responses", openai(model)], ["chat", openai.chat(model)]]) {
  const answer = await ai.generateText({ model: chosen, messages });
  say(`question by ${name}`, answer.text, `'${answer.text}'`);
  const more = [...messages, ...answer.response.messages, { role: "user", content: "what is it?" }];
  const stream = ai.streamText({ model: chosen, messages: more });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  say(`second by ${name}, stream`, text, `'${text}'`);
}

const drawn = await ai.generateText({
  model: openai(model), prompt: "a fox", tools: { image_generation: openai.tools.imageGeneration({ outputFormat: "webp" }) },
});
const result = drawn.staticToolResults?.[0] ?? drawn.toolResults?.[0];
say("picture as a tool", result?.output?.result?.length > 1000, result?.toolName);
