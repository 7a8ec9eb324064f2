// The scenario with OpenAI's library for Node. Arguments: address, photo, mask.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: OpenAI, toFile } = await load("openai");

const [address, photoPath, maskPath] = process.argv.slice(2);
const own = { steps: Number(process.env.STEPS ?? 4), mend: 0 };
const say = (step, ok, told) => console.log(JSON.stringify({ step, ok: Boolean(ok), told: String(told) }));
const cost = (told) => `${told.bytes_up} up, ${told.bytes_down} down`;
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", timeout: 300_000 });
const model = (await client.models.list()).data[0].id;

const made = await client.images.generate({ model, prompt: "a red balloon", size: "512x512", seed: 1, unimic: own });
say("generate", made.data[0].b64_json.length > 1000 && made.size === "512x512", cost(made.unimic));

const photo = readFileSync(photoPath);
const file = (bytes, name) => toFile(bytes, name, { type: "image/png" });
const done = await client.images.edit({
  model, prompt: "a tree", image: await file(photo, "photo.png"), mask: await file(readFileSync(maskPath), "mask.png"), unimic: own,
});
say("edit", done.data[0].b64_json.length > 1000 && done.unimic.bytes_up > 0, cost(done.unimic));

const url = `data:image/png;base64,${photo.toString("base64")}`;
const messages = [{ role: "user", content: [{ type: "text", text: "what color is the sky?" }, { type: "image_url", image_url: { url } }] }];
const answer = await client.chat.completions.create({ model, messages });
const words = answer.choices[0].message.content;
say("question", words, `'${words}', ${cost(answer.unimic)}`);
messages.push({ role: "assistant", content: words }, { role: "user", content: "what is it?" });
const second = await client.chat.completions.create({ model, messages });
say("second question", second.unimic.image_tokens_sent === 0, `'${second.choices[0].message.content}', ${cost(second.unimic)}`);

let text = "";
const options = { include_usage: true };
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: options }))
  text += chunk.choices[0]?.delta?.content ?? "";
say("chat, stream", text, `'${text}'`);

const kinds = [];
for await (const event of await client.images.generate({ model, prompt: "a house", stream: true, partial_images: 2, unimic: { ...own, steps: 8 } }))
  kinds.push(event.type);
say("picture, stream", kinds.length > 1 && kinds.at(-1) === "image_generation.completed", `${kinds.length - 1} partial`);

const response = await client.responses.create({ model, input: "a fox", tools: [{ type: "image_generation" }], unimic: own });
say("responses", response.output[0].result.length > 1000, response.output[0].type);
try {
  await client.images.edit({ model, prompt: "x", image: await file(photo, "photo.png") });
  say("refusal", false, "nothing was refused");
} catch (error) {
  say("refusal", error.status === 400 && error.param === "mask", error.code);
}
