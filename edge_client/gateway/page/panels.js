// The small parts beside the board: status, messages, answers, settings, theme. They know no turns.

import { bytes } from "./chart.js";

const $ = (name) => document.getElementById(name);

export function say(text) {
	$("status").textContent = text;
}

// Done of total steps; a total of 0: nobody knows yet; without both: nothing is under way.
export function progress(done, total) {
	$("progress").hidden = done === undefined;
	if (total) Object.assign($("progress"), { max: total, value: done });
	else $("progress").removeAttribute("value");
}

// A failure, or what is only good to know.
export function warn(text, mild = false) {
	$("alert").hidden = !text;
	$("alert").classList.toggle("mild", mild);
	$("alert").firstChild.textContent = text;
}

export function initPanels() {
	$("alert").lastChild.addEventListener("click", () => warn(""));
	// What a button shows as an icon it says as its title.
	for (const each of document.querySelectorAll(".icon")) each.ariaLabel = each.title;
	const { dataset } = document.documentElement;
	const dark = matchMedia("(prefers-color-scheme: dark)").matches;
	dataset.theme = localStorage.getItem("unimic-theme") ?? (dark ? "dark" : "light");
	$("theme").addEventListener("click", () => {
		dataset.theme = dataset.theme === "dark" ? "light" : "dark";
		localStorage.setItem("unimic-theme", dataset.theme);
	});
}

export function showDefaults({ defaults, most }) {
	for (const name of ["steps", "guidance"])
		Object.assign($(name), { placeholder: defaults[name], max: most[name] });
}

// What the settings say, without those that are left to the device.
export function settings() {
	const found = { partials: Number($("partials").value) };
	for (const name of ["seed", "steps", "guidance", "mend"]) {
		const field = $(name);
		if (!field.checkValidity()) {
			$("settings").open = true;
			field.focus();
			throw new Error(`${field.labels[0].firstChild.textContent}: ${field.validationMessage}`);
		}
		if (field.value) found[name] = Number(field.value);
	}
	if ($("negative").value.trim()) found.negative = $("negative").value;
	return found;
}

export function drawAnswers(turns) {
	const items = turns.map(({ text, answer, cost, warnings }) => {
		const item = document.createElement("li");
		const spent = `${bytes(cost.up.all)} up, ${bytes(cost.down.all)} down, ${cost.seconds.toFixed(1)} s`;
		for (const [name, line] of [["small", text], ["", answer || "(no words)"], ["small", spent], ...warnings.map((each) => ["small", each])])
			item.append(Object.assign(document.createElement("p"), { className: name, textContent: line }));
		return item;
	});
	$("answers").replaceChildren(...items.reverse());
}

export function download(blob, name) {
	const href = URL.createObjectURL(blob);
	Object.assign(document.createElement("a"), { href, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(href), 60000);
}
