// Talks to the gateway on this device, and to nobody else. It knows nothing of the page.

const ROOT = "/v1/unimic/desk";
const KEY = "unimic-key";

export class Failure extends Error {
	constructor(message, code = "") {
		super(message);
		this.code = code;
	}
}

export function useKey(key) {
	sessionStorage.setItem(KEY, key);
}

async function call(path, options = {}) {
	const key = sessionStorage.getItem(KEY);
	const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
	const reply = await fetch(ROOT + path, { ...options, headers }).catch((error) => {
		throw lost(error);
	});
	if (reply.ok) return reply;
	throw failed(await reply.json().catch(() => ({})), `The gateway answers ${reply.status}.`);
}

function failed(body, otherwise) {
	return new Failure(body.error?.message ?? otherwise, body.error?.code);
}

function lost(error) {
	if (error.name === "AbortError") return new Failure("Stopped.", "stopped");
	return new Failure("The gateway on this device does not answer: start it again with edge-client ui.", "gone");
}

const json = async (...words) => (await call(...words)).json();

const sent = async (path, file) =>
	json(`${path}?name=${encodeURIComponent(file.name ?? "")}`, { method: "POST", body: await file.arrayBuffer() });

export const state = () => json("");
export const forgetAll = () => json("", { method: "DELETE" });
export const openPicture = (file) => sent("/pictures", file);
export const cellsOf = (round, file) => sent(`/rounds/${round}/mask`, file);
export const fileOf = async (round, name) => (await call(`/rounds/${round}/${name}`)).blob();

// Events of a turn: step, partial, turn. Throws Failure when it fails.
export async function* takeTurn(wish, signal) {
	const headers = { "content-type": "application/json" };
	const reply = await call("/turns", { method: "POST", headers, body: JSON.stringify(wish), signal });
	const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
	let text = "";
	let kind = "";
	for (;;) {
		const { value, done } = await reader.read().catch((error) => {
			throw lost(error);
		});
		if (done) break;
		const pieces = (text + value).split("\n\n");
		text = pieces.pop();
		for (const piece of pieces) {
			const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(piece);
			kind = name;
			if (kind === "error") throw failed(JSON.parse(data), "The turn failed.");
			yield { kind, data: JSON.parse(data) };
		}
	}
	if (kind !== "turn") throw lost({});
}
