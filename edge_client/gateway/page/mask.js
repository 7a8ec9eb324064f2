// The mask of one picture: one bit a cell, row by row, with undo. It knows no pixels of the screen.

const MOST_UNDO = 100;

export class CellMask {
	constructor(columns, rows) {
		this.columns = columns;
		this.rows = rows;
		this.bits = new Uint8Array(Math.ceil((columns * rows) / 8));
		this.past = [];
		this.future = [];
	}

	get(column, row) {
		const place = row * this.columns + column;
		return (this.bits[place >> 3] >> (7 - (place & 7))) & 1;
	}

	set(column, row, value) {
		if (column < 0 || row < 0 || column >= this.columns || row >= this.rows) return;
		const place = row * this.columns + column;
		const bit = 128 >> (place & 7);
		if (value) this.bits[place >> 3] |= bit;
		else this.bits[place >> 3] &= ~bit;
	}

	get count() {
		let found = 0;
		for (const byte of this.bits) for (let rest = byte; rest; rest &= rest - 1) found += 1;
		return found;
	}

	// A change is what lies between begin and end; one that changes nothing leaves no trace.
	begin() {
		this.before = this.bits.slice();
	}

	end() {
		if (this.before?.some((byte, place) => byte !== this.bits[place])) {
			this.past = [...this.past, this.before].slice(-MOST_UNDO);
			this.future = [];
		}
		this.before = null;
	}

	cancel() {
		this.bits = this.before ?? this.bits;
		this.before = null;
	}

	change(work) {
		this.begin();
		work();
		this.end();
	}

	undo(from = this.past, to = this.future) {
		if (!from.length) return;
		to.push(this.bits);
		this.bits = from.pop();
	}

	redo() {
		this.undo(this.future, this.past);
	}

	clear() {
		this.change(() => this.bits.fill(0));
	}

	// Marks the cell at a place, and all cells whose middle is within half of `size` of it.
	stamp(x, y, size, value) {
		const reach = size / 2;
		this.set(Math.floor(x), Math.floor(y), value);
		for (let row = Math.floor(y - reach); row <= y + reach; row += 1)
			for (let column = Math.floor(x - reach); column <= x + reach; column += 1)
				if (Math.hypot(column + 0.5 - x, row + 0.5 - y) <= reach) this.set(column, row, value);
	}

	// The same along a line, in places given in cells.
	line([x, y], [toX, toY], size, value) {
		const steps = Math.ceil(Math.hypot(toX - x, toY - y) * 8);
		for (let step = 0; step <= steps; step += 1) {
			const share = steps ? step / steps : 0;
			this.stamp(x + (toX - x) * share, y + (toY - y) * share, size, value);
		}
	}

	get packed() {
		return btoa(String.fromCharCode(...this.bits));
	}

	set packed(text) {
		const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
		if (bytes.length === this.bits.length) this.bits = bytes;
	}
}
