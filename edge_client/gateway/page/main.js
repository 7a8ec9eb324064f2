// The page: what is open, what is asked of the device, and what came of it.

import * as api from "./api.js";
import { Board } from "./board.js";
import { bytes, drawChart, totals } from "./chart.js";
import { CellMask } from "./mask.js";
import { download, drawAnswers, initPanels, progress, say, settings, showDefaults, warn } from "./panels.js";
import { drawTree } from "./rounds.js";

const $ = (name) => document.getElementById(name);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const on = (name, event, work) => $(name).addEventListener(event, work);
const DRAFT = "unimic-draft";
const LABELS = {
	t2i: "What the picture shows",
	inpaint: "What is to be there instead (nothing: remove it)",
	outpaint: "What the larger picture shows",
};

let about = null; // the device; null until it has answered
let rounds = [];
let turns = [];
let current = null; // name of the round that is shown
let running = null; // aborts the turn under way
const masks = new Map();
const urls = new Map();

const board = new Board($("board"), {
	changed: () => refresh(),
	painted: () => setMode("inpaint"),
	extending: () => setMode("outpaint"),
	extended: () => refresh(),
	zoomed: () => {
		$("zoom-shown").textContent = `${Math.round(board.zoom * 100)} %`;
	},
	said: (text) => {
		$("cursor-said").textContent = text;
	},
});

const round = (name = current) => rounds.find((each) => each.name === name);
const mode = () => document.querySelector("[name=mode]:checked").value;
const blobOf = (packed, type) => new Blob([Uint8Array.from(atob(packed), (each) => each.charCodeAt(0))], { type });

function maskOf({ name, cells }) {
	if (!masks.has(name)) masks.set(name, new CellMask(cells.columns, cells.rows));
	return masks.get(name);
}

function urlOf({ name }, side) {
	const key = `${name} ${side}`;
	if (!urls.has(key)) {
		urls.set(key, api.fileOf(name, `view?side=${side}`).then((blob) => URL.createObjectURL(blob)));
		urls.get(key).catch(() => urls.delete(key));
	}
	return urls.get(key);
}

// What is shown -----------------------------------------------------------------------------------

function setMode(value) {
	document.querySelector(`[value=${value}]`).checked = true;
	$("sides").hidden = value !== "outpaint";
	$("prompt").labels[0].textContent = LABELS[value];
	board.setMode(value);
	refresh();
}

async function go(name) {
	current = name;
	const found = round();
	$("empty").hidden = Boolean(found);
	if (!found) {
		board.hide();
		setMode("t2i");
		return;
	}
	drawRounds();
	const seen = Math.max($("board").clientWidth, $("board").clientHeight) * (devicePixelRatio || 1);
	try {
		const url = await urlOf(found, seen > 768 && Math.max(...found.size) > 768 ? 2048 : 768);
		if (current !== name) return;
		board.show(found, url, maskOf(found));
		setMode(mode() === "t2i" ? "inpaint" : mode());
	} catch (error) {
		failed(error);
	}
}

// What the run button would do, and whether it can.
function planned(found, marked) {
	const words = $("prompt").value.trim();
	if (mode() === "t2i") return ["Draw a picture", words];
	if (mode() === "inpaint") {
		const cells = `${marked} ${marked === 1 ? "cell" : "cells"}`;
		return [marked ? `${words ? "Repaint" : "Remove what is in"} ${cells}` : "Mark what to repaint", marked];
	}
	const { left, right, up, down } = board.sides;
	if (!(left + right + up + down)) return ["Pull a handle to extend", false];
	const { columns, rows } = found.extension;
	return [`Extend to ${columns + left + right} × ${rows + up + down} tokens`, true];
}

function refresh() {
	const found = round();
	const mask = found && maskOf(found);
	const marked = mask?.count;
	const [label, can] = planned(found, marked);
	$("run").textContent = label;
	$("run").hidden = running;
	$("stop").hidden = !running;
	for (const [name, there] of Object.entries({
		run: can,
		"ask-run": found && !running && $("question").value.trim(),
		"mask-undo": mask?.past.length,
		"mask-redo": mask?.future.length,
		"mask-clear": marked,
		"mask-file": found,
		"save-png": found,
		"save-umic": found,
		"round-undo": round(found?.before ?? ""),
		forget: rounds.length,
	}))
		$(name).disabled = !there;
	for (const each of $$("[value=inpaint], [value=outpaint]")) each.disabled = !found;
	for (const each of $$("#sides input"))
		if (document.activeElement !== each) each.value = board.sides[each.dataset.side];
	remember();
}

function drawRounds() {
	const costs = new Map(turns.map(({ made, cost }) => [made, bytes(cost.up.all + cost.down.all)]));
	if (rounds.length) drawTree($("tree"), rounds, current, costs, (each) => urlOf(each, 160), go);
	drawAnswers(turns.filter((turn) => turn.answer !== null && turn.about === current));
	const sums = totals(turns);
	for (const way of ["up", "down"]) {
		$(`total-${way}`).textContent = bytes(sums[way]);
		$(`total-${way}`).title = `${sums[way]} bytes on the wire`;
	}
	if (!turns.length) return;
	drawChart($("chart"), turns, about.formats);
	const times = Math.min(...Object.values(sums.formats)) / (sums.up + sums.down);
	const said = `${times.toFixed(1)} times less than the same pictures, each sent once`;
	$("chart-told").textContent = Number.isFinite(times) && times > 1 ? said : "";
}

// What is asked -----------------------------------------------------------------------------------

function failed(error) {
	progress();
	const kept = "Your mask and your words are still here.";
	say(error.code === "stopped" ? `Stopped. ${kept}` : "");
	if (error.code === "stopped") return;
	warn(error.code ? `${error.message}. ${kept}`.replace("..", ".") : error.message);
	if (error.code === "invalid_api_key") $("key").showModal();
	$("cloud").classList.toggle("lost", /^(cloud_|gone)/.test(error.code));
}

async function take(wish) {
	if (running) return;
	running = new AbortController();
	warn("");
	say("The device encodes and sends…");
	progress(0);
	refresh();
	const only = wish.task === "inpaint" ? maskOf(round()) : null;
	const marked = only && Object.assign(new CellMask(only.columns, only.rows), { bits: only.bits.slice() });
	try {
		for await (const { kind, data } of api.takeTurn(wish, running.signal)) {
			if (kind === "step") {
				progress(data.done, data.total);
				say(`Step ${data.done} of ${data.total}`);
			} else if (kind === "partial" && wish.task === "t2i") {
				$("dawning").src = URL.createObjectURL(blobOf(data.b64, data.kind));
				$("dawning").hidden = false;
			} else if (kind === "partial" && wish.round === current) {
				await board.showGlimpse(blobOf(data.b64, data.kind), data.at, marked);
			} else if (kind === "turn") {
				await taken(data, wish);
			}
		}
	} catch (error) {
		board.forgetGlimpse();
		failed(error);
	}
	running = null;
	$("dawning").hidden = true;
	progress();
	refresh();
}

async function taken({ turn, round: made }, wish) {
	turns.push(turn);
	$("cloud").classList.remove("lost");
	const { up, down, seconds } = turn.cost;
	say(`Done in ${seconds.toFixed(1)} s: ${bytes(up.all)} up, ${bytes(down.all)} down.`);
	warn(turn.answer === null ? turn.warnings.join(" · ") : "", true);
	if (made) rounds.push(made);
	// Who has gone to another round meanwhile stays there.
	if (made && (!wish.round || wish.round === current)) await go(made.name);
	else drawRounds();
}

function run(event) {
	event.preventDefault();
	if ($("run").disabled || running) return;
	try {
		const wish = { ...settings(), task: mode(), text: $("prompt").value };
		if (mode() !== "t2i") wish.round = current;
		if (mode() === "inpaint") wish.cells = maskOf(round()).packed;
		if (mode() === "outpaint") wish.sides = board.sides;
		take(wish);
	} catch (error) {
		failed(error);
	}
}

function ask(event) {
	event.preventDefault();
	if (!$("ask-run").disabled) take({ task: "vqa", round: current, text: $("question").value });
}

// Says what is being done, does it, and says what came of it.
async function attempt(doing, work) {
	warn("");
	say(doing);
	try {
		const { told = "", warnings = [] } = await work();
		say(told);
		warn(warnings.join(" · "), true);
	} catch (error) {
		failed(error);
	}
}

const open = (file) =>
	attempt(`Opening ${file.name}…`, async () => {
		const made = await api.openPicture(file);
		rounds.push(made);
		await go(made.name);
		return { told: `${made.text}, ${made.size.join(" × ")} pixels.`, warnings: made.warnings };
	});

const takeMask = (file) =>
	attempt(`Reading ${file.name}…`, async () => {
		const mask = maskOf(round());
		const { cells, warnings } = await api.cellsOf(current, file);
		mask.change(() => {
			mask.packed = cells;
		});
		setMode("inpaint");
		return { told: `${file.name}: ${mask.count} cells marked.`, warnings };
	});

const save = (name) =>
	attempt("The device writes the file…", async () => {
		const blob = await api.fileOf(current, name);
		download(blob, `unimic-${rounds.indexOf(round()) + 1}-${name}`);
		return { told: `Saved, ${bytes(blob.size)}.` };
	});

const forget = () =>
	attempt("", async () => {
		if (!confirm("Forget all rounds on this device? Files that you saved stay.")) return {};
		await api.forgetAll();
		about = null;
		sessionStorage.removeItem(DRAFT);
		location.reload();
		return {};
	});

// What outlives a reload --------------------------------------------------------------------------

function remember() {
	if (!about) return;
	const kept = [...masks].filter(([, mask]) => mask.count).map(([name, mask]) => [name, mask.packed]);
	const words = { prompt: $("prompt").value, question: $("question").value };
	sessionStorage.setItem(DRAFT, JSON.stringify({ ...words, current, mode: mode(), kept }));
}

async function begin() {
	const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "{}");
	try {
		const found = await api.state();
		({ rounds, turns } = found);
		board.most = found.most.grid;
		$("cloud").textContent = `${found.model} at ${found.server}`;
		showDefaults(found);
		for (const name of ["prompt", "question"]) $(name).value ||= draft[name] ?? "";
		for (const [name, packed] of draft.kept ?? []) if (round(name)) maskOf(round(name)).packed = packed;
		about = found;
		await go((round(draft.current) ?? rounds.at(-1))?.name);
		if (round() && draft.mode) setMode(draft.mode);
	} catch (error) {
		failed(error);
	}
}

// Wiring ------------------------------------------------------------------------------------------

function pick(tool) {
	board.tool = $("board").dataset.tool = tool;
	for (const each of $$("button[data-tool]")) each.ariaPressed = each.dataset.tool === tool;
}

function change(what) {
	board.mask?.[what]();
	board.draw();
	refresh();
}

function pressed(event) {
	if (event.target.matches("input:not([type=radio], [type=range]), textarea, select")) return;
	const letter = event.key.toLowerCase();
	if (event.ctrlKey || event.metaKey) {
		const what = { z: event.shiftKey ? "redo" : "undo", y: "redo" }[letter];
		if (!what) return;
		event.preventDefault();
		change(what);
		return;
	}
	const tool = { b: "brush", e: "eraser", h: "hand" }[letter];
	if (tool) pick(tool);
	$({ "+": "zoom-in", "-": "zoom-out", 0: "zoom-fit" }[letter])?.click();
}

function wireTools() {
	pick("brush");
	for (const each of $$("button[data-tool]")) each.addEventListener("click", () => pick(each.dataset.tool));
	const sized = () => {
		board.size = Number($("brush-size").value);
		$("brush-shown").textContent = board.size;
	};
	sized();
	on("brush-size", "input", sized);
	for (const what of ["undo", "redo", "clear"]) on(`mask-${what}`, "click", () => change(what));
	on("zoom-in", "click", () => board.setZoom(board.zoom * 1.25));
	on("zoom-out", "click", () => board.setZoom(board.zoom / 1.25));
	on("zoom-fit", "click", () => board.setZoom(1));
	document.addEventListener("keydown", pressed);
}

function wireFiles() {
	for (const name of ["open", "open-first"]) on(name, "click", () => $("file").click());
	on("mask-file", "click", () => $("mask-chosen").click());
	for (const [name, use] of [["file", open], ["mask-chosen", takeMask]])
		on(name, "change", ({ target }) => {
			if (target.files[0]) use(target.files[0]);
			target.value = "";
		});
	const drop = $("drop");
	const listen = (name, work) =>
		document.addEventListener(name, (event) => {
			if (event.dataTransfer?.types.includes("Files")) work(event);
		});
	listen("dragenter", () => {
		drop.hidden = false;
		drop.lastChild.hidden = !round();
	});
	listen("dragover", (event) => event.preventDefault());
	listen("dragleave", (event) => {
		if (!event.relatedTarget) drop.hidden = true;
	});
	listen("drop", (event) => {
		event.preventDefault();
		drop.hidden = true;
		const use = event.target.dataset.drop === "mask" ? takeMask : open;
		use(event.dataTransfer.files[0]);
	});
}

function wireForms() {
	on("make", "submit", run);
	on("ask", "submit", ask);
	on("stop", "click", () => running?.abort());
	for (const name of ["prompt", "question"]) on(name, "input", refresh);
	on("prompt", "keydown", (event) => {
		if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
	});
	for (const each of $$("[name=mode]")) each.addEventListener("change", () => setMode(each.value));
	for (const each of $$("#sides input"))
		each.addEventListener("input", () => {
			board.setSide(each.dataset.side, Number(each.value));
			board.layout();
			refresh();
		});
	on("round-undo", "click", () => go(round().before));
	on("save-png", "click", () => save("picture.png"));
	on("save-umic", "click", () => save("tokens.umic"));
	on("forget", "click", forget);
	on("key", "close", () => {
		api.useKey($("key-text").value);
		warn("");
		begin();
	});
}

initPanels();
wireTools();
wireFiles();
wireForms();
begin();
