// The latest lines of the log in memory, for `meshctl bundle`: where an agent logs to a terminal or to a container's output,
// nothing else on the host may have them. The lines have passed the redaction of log.ts, as those on standard error.

/** The bounds of what is kept. A line has about 200 bytes, so the ring has hours of a quiet agent. */
const LINES_MAX = 2000
const CHARACTERS_MAX = 512 * 1024
/** A longer line is cut: one with a whole manifest would push out all others. */
const LINE_CHARACTERS_MAX = 4096

/** Keeps the latest lines, each with its line break. */
export class LogRing {
  #lines: string[] = []
  /** The index of the oldest line that is kept: the ones before it are dropped from the list now and then. */
  #first = 0
  #characters = 0
  #left = 0

  /** Takes one line with its line break. */
  write(line: string): void {
    const kept = line.length <= LINE_CHARACTERS_MAX ? line : `${line.slice(0, LINE_CHARACTERS_MAX)}…\n`
    this.#lines.push(kept)
    this.#characters += kept.length
    while (this.#lines.length - this.#first > LINES_MAX || this.#characters > CHARACTERS_MAX) {
      this.#characters -= this.#lines[this.#first]?.length ?? 0
      this.#first++
      this.#left++
    }
    // To move all lines for each new one would take time in proportion to their number.
    if (this.#first < LINES_MAX) return
    this.#lines = this.#lines.slice(this.#first)
    this.#first = 0
  }

  /** The lines, the oldest first, and the number of earlier ones that are not kept. */
  read(): { readonly lines: readonly string[]; readonly left: number } {
    return { lines: this.#lines.slice(this.#first), left: this.#left }
  }
}
