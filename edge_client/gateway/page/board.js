// The picture, the mask over it and the handles around it: what is shown where, and what hands,
// pens and keys do there. It knows nothing of turns. Places are in pixels of the picture; `scale`
// brings them to those of the screen.

const MARGIN = 30;
const SPARE = 6; // tokens of room in all, for handles to be pulled into
const MOST_ZOOM = 8;
const ALONG = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const DOWN = { up: true, down: true };
const OPPOSITE = { left: "right", right: "left", up: "down", down: "up" };

const arrow = (side) => `Arrow${side[0].toUpperCase()}${side.slice(1)}`;

export class Board {
	// heard: changed() of the mask, painted() after a stroke, extending() before a side is pulled,
	// extended() after, said(text) for those who listen, zoomed().
	constructor(root, heard) {
		for (const name of ["area", "stage", "picture", "glimpse", "overlay"])
			this[name] = root.querySelector(`#${name}`);
		this.root = root;
		this.handles = Object.keys(OPPOSITE).map((side) => this.#handle(side));
		this.heard = heard;
		this.round = this.mask = this.hover = this.seen = null;
		this.mode = "t2i";
		this.tool = "brush";
		this.size = this.zoom = this.scale = 1;
		this.origin = this.cursor = [0, 0];
		this.sides = { left: 0, right: 0, up: 0, down: 0 };
		this.most = 64;
		this.pointers = new Map();
		this.#listen();
	}

	show(round, url, mask) {
		if (round.name !== this.round?.name) {
			const [column, row, columns, rows] = round.cells.window;
			this.cursor = [column + (columns >> 1), row + (rows >> 1)];
			this.zoom = 1;
			this.sides = { left: 0, right: 0, up: 0, down: 0 };
		}
		this.round = round;
		this.mask = mask;
		this.area.hidden = false;
		this.picture.src = url;
		this.picture.alt = `Round: ${round.text || round.task}`;
		this.seen = null;
		this.layout();
		this.heard.zoomed();
	}

	hide() {
		this.round = this.mask = null;
		this.area.hidden = true;
	}

	setMode(mode) {
		const refit = (this.mode === "outpaint") !== (mode === "outpaint");
		this.mode = this.root.dataset.mode = mode;
		if (refit) this.layout();
		else this.draw();
	}

	setZoom(zoom) {
		this.zoom = Math.min(MOST_ZOOM, Math.max(0.25, zoom));
		this.layout();
		this.heard.zoomed();
	}

	setSide(side, value) {
		const room = this.#most(side) - this.sides[OPPOSITE[side]];
		this.sides[side] = Math.max(0, Math.min(Math.round(value) || 0, room));
	}

	// The picture with what is added: its size, and what comes before it.
	get grown() {
		const { width, height } = this.round.extension;
		const { left, right, up, down } = this.sides;
		return {
			left: left * width,
			top: up * height,
			width: this.round.size[0] + (left + right) * width,
			height: this.round.size[1] + (up + down) * height,
		};
	}

	// Picks scale and origin, so that all is seen at zoom 1, and keeps what is in the middle there.
	layout() {
		if (!this.round) return;
		const { root, area, round, zoom } = this;
		const { width, height, left, top } = this.grown;
		const spare = this.mode === "outpaint" ? SPARE : 0;
		const seen = [root.clientWidth, root.clientHeight];
		const at = [
			(root.scrollLeft + seen[0] / 2) / (area.offsetWidth || 1),
			(root.scrollTop + seen[1] / 2) / (area.offsetHeight || 1),
		];
		const fits = [width + spare * round.extension.width, height + spare * round.extension.height];
		this.scale = Math.max(0.01, zoom * Math.min(...fits.map((side, axis) => (seen[axis] - 2 * MARGIN) / side)));
		const whole = [width, height].map((side, axis) => Math.max(seen[axis], side * this.scale + 2 * MARGIN));
		[area.style.width, area.style.height] = whole.map((side) => `${Math.floor(side)}px`);
		this.origin = [left - width / 2, top - height / 2].map((each, axis) => whole[axis] / 2 + each * this.scale);
		root.scrollLeft = at[0] * whole[0] - seen[0] / 2;
		root.scrollTop = at[1] * whole[1] - seen[1] / 2;
		this.place();
	}

	// Puts everything where scale, origin and sides say.
	place() {
		const { scale, round } = this;
		const [left, top, width, height] = ["left", "top", "width", "height"].map((each) => this.grown[each] * scale);
		box(this.stage, this.origin[0] - left, this.origin[1] - top, width, height);
		box(this.picture, left, top, round.size[0] * scale, round.size[1] * scale);
		this.dense = Math.min(devicePixelRatio || 1, 4096 / Math.max(width, height));
		for (const canvas of [this.overlay, this.glimpse]) {
			box(canvas, 0, 0, width, height);
			canvas.width = Math.round(width * this.dense);
			canvas.height = Math.round(height * this.dense);
		}
		for (const handle of this.handles) {
			const { side } = handle.dataset;
			const value = this.sides[side];
			handle.textContent = value ? `+${value}` : "";
			handle.ariaValueNow = value;
			handle.ariaValueMax = this.#most(side);
			handle.ariaValueText = `${value} ${DOWN[side] ? "rows" : "columns"}`;
		}
		this.#drawGlimpse();
		this.draw();
	}

	draw() {
		if (!this.mask) return;
		const { round, mask, mode, dense } = this;
		const pen = this.overlay.getContext("2d");
		const [x, y] = this.#scales(dense);
		const { left, top } = this.grown;
		const unit = this.scale * dense;
		pen.clearRect(0, 0, this.overlay.width, this.overlay.height);
		pen.save();
		pen.beginPath();
		pen.rect(left * unit, top * unit, round.size[0] * unit, round.size[1] * unit);
		pen.clip();
		if (mode === "inpaint") this.#drawGrid(pen, x, y);
		const [fill, border] = shapes(mask, x, y);
		pen.globalAlpha = mode === "inpaint" ? 1 : 0.55;
		pen.fillStyle = "#e6007a66";
		pen.fill(fill);
		pen.lineCap = "square";
		stroke(pen, border, dense, { "#fff": 4, "#c0006a": 2 });
		pen.restore();
		if (mode !== "inpaint") return;
		const cursor = new Path2D();
		if (this.overlay.matches(":focus-visible")) {
			frame(cursor, x, y, ...this.cursor, 1, 1);
			stroke(pen, cursor, dense, { "#000": 5, "#fff": 3 });
		} else if (this.hover && this.tool !== "hand") {
			cursor.arc(x(this.hover[0]), y(this.hover[1]), (this.size / 2) * round.cells.width * unit, 0, 7);
			stroke(pen, cursor, dense, { "#0008": 3, "#fff": 1.5 });
		}
	}

	// A part of the picture as it is being made, under the cells of `only`, or all of the larger one.
	// `at`: left, top, width and height of what it shows.
	async showGlimpse(blob, at, only) {
		this.seen = { image: await createImageBitmap(blob), at, only };
		this.#drawGlimpse();
	}

	forgetGlimpse() {
		this.seen = null;
		this.#drawGlimpse();
	}

	// ---------------------------------------------------------------------------------------------

	#most(side) {
		return this.most - this.round.extension[DOWN[side] ? "rows" : "columns"];
	}

	// From columns and rows of cells to pixels of a canvas.
	#scales(dense) {
		const { cells } = this.round;
		const { left, top } = this.grown;
		const unit = this.scale * dense;
		return [
			(column) => (left + cells.left + column * cells.width) * unit,
			(row) => (top + cells.top + row * cells.height) * unit,
		];
	}

	#drawGlimpse() {
		const { glimpse, seen } = this;
		const pen = glimpse.getContext("2d");
		pen.clearRect(0, 0, glimpse.width, glimpse.height);
		if (!seen || !this.round) return;
		const unit = this.scale * this.dense;
		const { left, top } = seen.only ? this.grown : { left: 0, top: 0 };
		const [x, y, width, height] = seen.at.map((each) => each * unit);
		pen.save();
		if (seen.only) pen.clip(shapes(seen.only, ...this.#scales(this.dense))[0]);
		pen.drawImage(seen.image, left * unit + x, top * unit + y, width, height);
		pen.restore();
	}

	#drawGrid(pen, x, y) {
		const { cells } = this.round;
		const lines = new Path2D();
		const all = [0, 0, cells.columns, cells.rows];
		if (cells.width * this.scale < 5) return;
		for (let column = 0; column < cells.columns; column += 2) frame(lines, x, y, column, 0, 1, cells.rows);
		for (let row = 0; row < cells.rows; row += 2) frame(lines, x, y, 0, row, cells.columns, 1);
		frame(lines, x, y, ...all);
		stroke(pen, lines, this.dense, { "#0002": 2, "#fff5": 0.8 });
		// What the model sees at once, where that is not all.
		const seen = new Path2D();
		frame(seen, x, y, ...cells.window);
		if (`${cells.window}` !== `${all}`) stroke(pen, seen, this.dense, { "#0006": 3, "#fff": 1.2 });
	}

	#cell(event) {
		const rect = this.overlay.getBoundingClientRect();
		const { left, top, width, height } = this.grown;
		const { cells } = this.round;
		return [
			(((event.clientX - rect.left) / rect.width) * width - left - cells.left) / cells.width,
			(((event.clientY - rect.top) / rect.height) * height - top - cells.top) / cells.height,
		];
	}

	#listen() {
		const { overlay } = this;
		const on = (name, work) => overlay.addEventListener(name, (event) => this.mask && work(event));
		on("pointerdown", (event) => this.#down(event));
		on("pointermove", (event) => this.#move(event));
		on("pointerup", (event) => this.#up(event, true));
		on("pointercancel", (event) => this.#up(event, false));
		on("pointerleave", () => {
			this.hover = null;
			this.draw();
		});
		on("contextmenu", (event) => event.preventDefault());
		on("keydown", (event) => this.#key(event));
		on("focus", () => this.draw());
		on("blur", () => this.draw());
		this.root.addEventListener("wheel", (event) => {
			if (!event.ctrlKey) return;
			event.preventDefault();
			this.setZoom(this.zoom * Math.exp(-event.deltaY / 300));
		}, { passive: false });
		new ResizeObserver(() => requestAnimationFrame(() => this.layout())).observe(this.root);
		for (const handle of this.handles) this.#listenTo(handle);
	}

	#handle(side) {
		const handle = document.createElement("div");
		Object.assign(handle, { role: "slider", tabIndex: 0, ariaLabel: `Extend ${side}`, ariaValueMin: 0, ariaValueNow: 0 });
		handle.className = DOWN[side] ? "handle level" : "handle";
		handle.ariaOrientation = DOWN[side] ? "vertical" : "horizontal";
		handle.dataset.side = side;
		this.stage.append(handle);
		return handle;
	}

	#down(event) {
		event.preventDefault();
		this.overlay.focus({ preventScroll: true, focusVisible: false });
		this.overlay.setPointerCapture(event.pointerId);
		this.pointers.set(event.pointerId, event);
		if (this.pointers.size > 1 || this.tool === "hand" || event.button === 1) {
			// A second finger moves and zooms; what the first has begun to paint was not meant.
			this.stroke = null;
			this.mask.cancel();
			this.held = this.#holding();
		} else {
			// The far end of a pen, and the right button, erase whatever the tool is.
			const erases = this.tool === "eraser" || event.button === 2 || (event.buttons & 32) !== 0;
			this.mask.begin();
			this.stroke = { value: !erases, last: this.#cell(event) };
			this.mask.line(this.stroke.last, this.stroke.last, this.size, this.stroke.value);
		}
		this.draw();
	}

	#move(event) {
		if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, event);
		if (this.stroke) {
			const events = event.getCoalescedEvents?.() ?? [];
			for (const each of events.length ? events : [event]) {
				const place = this.#cell(each);
				this.mask.line(this.stroke.last, place, this.size, this.stroke.value);
				this.stroke.last = place;
			}
		} else if (this.held && this.pointers.size) {
			const now = this.#holding();
			if (this.held.apart && now.apart) this.setZoom((this.held.zoom * now.apart) / this.held.apart);
			this.root.scrollLeft -= now.x - this.held.x;
			this.root.scrollTop -= now.y - this.held.y;
			Object.assign(this.held, { x: now.x, y: now.y });
		}
		this.hover = event.pointerType === "touch" ? null : this.#cell(event);
		this.draw();
	}

	#up(event, done) {
		this.pointers.delete(event.pointerId);
		this.held = this.pointers.size ? this.#holding() : null;
		if (this.stroke) {
			this.stroke = null;
			if (done) this.mask.end();
			else this.mask.cancel();
			this.heard.changed();
			this.heard.painted();
		}
		this.draw();
	}

	#holding() {
		const [one, two = one] = this.pointers.values();
		return {
			x: (one.clientX + two.clientX) / 2,
			y: (one.clientY + two.clientY) / 2,
			apart: Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY),
			zoom: this.zoom,
		};
	}

	#key(event) {
		if (event.altKey || event.metaKey || event.ctrlKey) return;
		const along = ALONG[event.key];
		const { mask } = this;
		const last = [mask.columns - 1, mask.rows - 1];
		if (along) {
			this.cursor = this.cursor.map((each, axis) => Math.min(last[axis], Math.max(0, each + along[axis])));
			if (event.shiftKey) this.#mark(this.tool !== "eraser");
		} else if (event.key === " " || event.key === "Enter") {
			this.#mark(!mask.get(...this.cursor));
		} else {
			return;
		}
		event.preventDefault();
		const [column, row] = this.cursor;
		this.heard.said(`row ${row + 1}, column ${column + 1}, ${mask.get(column, row) ? "" : "not "}marked`);
		this.draw();
	}

	#mark(value) {
		this.mask.change(() => this.mask.set(...this.cursor, value));
		this.heard.changed();
		this.heard.painted();
	}

	#listenTo(handle) {
		const { side } = handle.dataset;
		const sign = side === "left" || side === "up" ? -1 : 1;
		const coordinate = DOWN[side] ? "clientY" : "clientX";
		let start = null;
		const pull = (value, refit) => {
			this.setSide(side, value);
			if (refit) this.layout();
			else this.place();
			this.heard.extended();
		};
		handle.addEventListener("pointerdown", (event) => {
			event.preventDefault();
			handle.focus();
			handle.setPointerCapture(event.pointerId);
			this.heard.extending();
			start = { at: event[coordinate], value: this.sides[side] };
		});
		handle.addEventListener("pointermove", (event) => {
			if (!start) return;
			const each = this.round.extension[DOWN[side] ? "height" : "width"] * this.scale;
			pull(start.value + (sign * (event[coordinate] - start.at)) / each, false);
		});
		for (const name of ["pointerup", "pointercancel"])
			handle.addEventListener(name, () => {
				if (start) this.layout();
				start = null;
			});
		handle.addEventListener("keydown", (event) => {
			const steps = { [arrow(side)]: 1, [arrow(OPPOSITE[side])]: -1, Home: -99, End: 99 };
			const step = steps[event.key];
			if (!step) return;
			event.preventDefault();
			this.heard.extending();
			pull(this.sides[side] + step, true);
		});
	}
}

// The marked cells of a mask, and the line around them.
function shapes(mask, x, y) {
	const fill = new Path2D();
	const border = new Path2D();
	const marked = (column, row) =>
		column >= 0 && row >= 0 && column < mask.columns && row < mask.rows && mask.get(column, row);
	for (let row = 0; row < mask.rows; row += 1)
		for (let column = 0; column < mask.columns; column += 1) {
			if (!mask.get(column, row)) continue;
			const [left, top, right, bottom] = [x(column), y(row), x(column + 1), y(row + 1)];
			fill.rect(left, top, right - left, bottom - top);
			for (const [along, down, ...line] of [
				[-1, 0, left, top, left, bottom],
				[1, 0, right, top, right, bottom],
				[0, -1, left, top, right, top],
				[0, 1, left, bottom, right, bottom],
			]) {
				if (marked(column + along, row + down)) continue;
				border.moveTo(line[0], line[1]);
				border.lineTo(line[2], line[3]);
			}
		}
	return [fill, border];
}

// Columns and rows of cells as a rectangle of a path.
function frame(path, x, y, column, row, columns, rows) {
	path.rect(x(column), y(row), x(column + columns) - x(column), y(row + rows) - y(row));
}

// Draws a path in several colours, each of so many pixels of the screen.
function stroke(pen, path, dense, widths) {
	for (const [colour, width] of Object.entries(widths)) {
		pen.strokeStyle = colour;
		pen.lineWidth = width * dense;
		pen.stroke(path);
	}
}

function box(element, ...sides) {
	["left", "top", "width", "height"].forEach((name, place) => {
		element.style[name] = `${sides[place]}px`;
	});
}
