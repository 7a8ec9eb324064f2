// Bytes as charts: beside pixel formats, and by turn and part. It knows nothing of the device.

const PARTS = {
	words: (way) => way.parts.text,
	mask: (way) => way.parts.mask + way.parts.dropped,
	picture: (way) => way.parts.image,
	header: (way) => way.parts.parameters + way.parts.container,
	link: (way) => way.all - way.payload - way.progress,
	progress: (way) => way.progress,
};
const FORMATS = { avif: "AVIF", webp: "WebP", jpeg: "JPEG" };
const TASKS = { t2i: "new", inpaint: "repaint", outpaint: "extend", vqa: "ask" };
const WAYS = { up: "↑", down: "↓" };
const HIGH = 96;
const WIDE = 54;

export function bytes(count) {
	if (count < 10000) return `${count.toLocaleString("en")} B`;
	return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function totals(turns) {
	const found = { up: 0, down: 0, formats: {} };
	for (const { cost, pictures } of turns) {
		found.up += cost.up.all;
		found.down += cost.down.all;
		for (const [name, both] of Object.entries(pictures))
			if (both) found.formats[name] = (found.formats[name] ?? 0) + both[0] + both[1];
	}
	return found;
}

export function drawChart(root, turns, qualities) {
	const shown = make("div", { className: "charts" }, beside(turns, qualities), byTurn(turns));
	const keys = Object.keys(PARTS).map((part) => make("li", {}, make("i", { className: part }), part));
	root.replaceChildren(shown, make("ul", { className: "legend" }, ...keys), asTable(turns));
}

function beside(turns, qualities) {
	const { up, down, formats } = totals(turns);
	const rows = [["tokens", "Tokens", up + down]];
	for (const [name, shown] of Object.entries(FORMATS))
		if (formats[name]) rows.push([name, `${shown}, quality ${qualities[name]}`, formats[name]]);
	const most = Math.max(...rows.map((row) => row[2]), 1);
	const list = make("dl");
	for (const [name, shown, count] of rows) {
		const bar = make("i", { className: name });
		bar.style.width = `${Math.max(1, (100 * count) / most)}%`;
		list.append(make("dt", {}, shown), make("dd", {}, make("span", {}, bar), make("b", {}, bytes(count))));
	}
	return list;
}

function byTurn(turns) {
	const most = Math.max(...turns.flatMap(({ cost }) => [cost.up.all, cost.down.all]), 1);
	const wide = turns.length * WIDE + 8;
	const picture = svg("svg", { width: wide, height: HIGH + 30, role: "img", "aria-label": "Bytes by turn and part; the table has the numbers" });
	picture.append(svg("path", { d: `M0 ${HIGH}.5H${wide}` }));
	turns.forEach((turn, place) => {
		Object.keys(WAYS).forEach((way, second) => {
			const left = 8 + place * WIDE + second * 22;
			let top = HIGH;
			for (const [part, of] of Object.entries(PARTS)) {
				const height = (of(turn.cost[way]) / most) * (HIGH - 14);
				top -= height;
				picture.append(svg("rect", { x: left, y: top, width: 20, height, class: part }));
			}
			picture.append(text(left + 10, top - 3, turn.cost[way].all), text(left + 10, HIGH + 12, WAYS[way]));
		});
		picture.append(text(29 + place * WIDE, HIGH + 25, TASKS[turn.task]));
	});
	const frame = scrolling("Bytes by turn and part", picture);
	requestAnimationFrame(() => {
		frame.scrollLeft = wide;
	});
	return frame;
}

function asTable(turns) {
	const row = (kind, cells) => make("tr", {}, ...cells.map((cell) => make(kind, {}, String(cell))));
	const table = make("table", { id: "cost-table" });
	table.append(row("th", ["turn", "way", ...Object.keys(PARTS), "all", ...Object.values(FORMATS)]));
	for (const turn of turns)
		Object.keys(WAYS).forEach((way, second) => {
			const cost = turn.cost[way];
			const pictures = Object.keys(FORMATS).map((name) => turn.pictures[name]?.[second] ?? "–");
			const parts = Object.values(PARTS).map((of) => of(cost));
			table.append(row("td", [`${turn.number} ${TASKS[turn.task]}`, way, ...parts, cost.all, ...pictures]));
		});
	return make("details", {}, make("summary", {}, "As a table"), scrolling("Table of bytes", table));
}

function scrolling(ariaLabel, content) {
	return make("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel }, content);
}

function make(name, properties = {}, ...children) {
	const found = Object.assign(document.createElement(name), properties);
	found.append(...children);
	return found;
}

function svg(name, attributes) {
	const found = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
	return found;
}

function text(x, y, content) {
	const found = svg("text", { x, y });
	found.textContent = content;
	return found;
}
