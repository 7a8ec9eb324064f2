// The tree of rounds: one row a branch, from left to right. It knows nothing of the device.

const NOUNS = { open: "opened", t2i: "drawn", inpaint: "repainted", outpaint: "extended" };

// Where each round stands: column = how many rounds lead to it, row = its branch.
export function placed(rounds) {
	const kept = new Set(rounds.map((each) => each.name));
	const after = Map.groupBy(rounds, (each) => (kept.has(each.before) ? each.before : null));
	const places = [];
	let row = -1;
	const visit = (round, column, above, straight) => {
		if (!straight) row += 1;
		const own = row;
		places.push({ round, column, row, up: above === null ? null : row - above });
		(after.get(round.name) ?? []).forEach((each, place) => visit(each, column + 1, own, place === 0));
	};
	for (const round of after.get(null) ?? []) visit(round, 0, null, false);
	return places;
}

// Draws the tree. `thumb(round)` promises the address of a small picture, `costs` are in words.
export function drawTree(root, rounds, current, costs, thumb, pick) {
	const focused = document.activeElement?.dataset?.round;
	const buttons = placed(rounds).map(({ round, column, row, up }) => {
		const button = document.createElement("button");
		const image = document.createElement("img");
		const label = document.createElement("span");
		const told = [rounds.indexOf(round) + 1, costs.get(round.name)].filter(Boolean).join(" · ");
		button.type = "button";
		button.title = `${NOUNS[round.task]}: ${round.text || "nothing"}`;
		button.className = up === null ? "round" : up ? "round child branch" : "round child";
		button.dataset.round = round.name;
		button.ariaLabel = `Round ${told}, ${button.title}`;
		button.ariaCurrent = round.name === current;
		button.style.gridArea = `${row + 1} / ${column + 1}`;
		button.style.setProperty("--up", up);
		thumb(round).then((url) => {
			image.src = url;
		}, () => {});
		image.alt = "";
		label.textContent = told;
		button.append(image, label);
		button.addEventListener("click", () => pick(round.name));
		return button;
	});
	root.classList.add("grown");
	root.replaceChildren(...buttons);
	buttons.find((each) => each.dataset.round === focused)?.focus({ preventScroll: true });
	const now = buttons.find((each) => each.dataset.round === current);
	if (now) {
		root.scrollLeft = now.offsetLeft - root.clientWidth / 2;
		root.scrollTop = now.offsetTop - root.clientHeight / 2;
	}
}
