// The files of a bundle, with bounds. Each file and the whole have a greatest size, and what is cut, or could not be had, is
// named in the bundle itself with its reason, so that a reader does not take a part for the whole.
import { gzipSync } from 'node:zlib'
import { safeJson } from '../output/text.ts'
import { Scrubber } from './scrub.ts'
import { tarOf, type TarFile } from './tar.ts'

/** The greatest sizes, in bytes before compression, which makes about a tenth of them. */
interface Bounds {
  readonly file: number
  readonly bundle: number
}

/** 10,000 services are about 4 MiB as JSON, and the whole must fit into a ticket. */
const BOUNDS: Bounds = { file: 8 << 20, bundle: 48 << 20 }

/** A file that is in the bundle. */
export interface Kept {
  readonly name: string
  /** What it is, as a phrase: "the answer of `meshctl status`". */
  readonly what: string
  readonly bytes: number
  /** The bytes at its end that were left out; absent: it is whole. */
  readonly cutBytes?: number
}

/** A file that is not in the bundle. `reason`: a sentence without its full stop. */
export interface Missing {
  readonly name: string
  readonly reason: string
}

/** What a bundle has, as its file contents.json says it. */
export interface Contents {
  /** When it was made, an ISO 8601 time of this host's clock. */
  readonly made: string
  readonly files: readonly Kept[]
  readonly missing: readonly Missing[]
  /** Values that had the shape of a secret, and were replaced by [removed]. */
  readonly removed: number
}

/** Collects the files of one bundle in memory. */
export class Gathering {
  readonly #scrubber = new Scrubber()
  readonly #files: TarFile[] = []
  readonly #kept: Kept[] = []
  readonly #missing: Missing[] = []
  readonly #bounds: Bounds
  #left: number

  constructor(bounds: Bounds = BOUNDS) {
    this.#bounds = bounds
    this.#left = bounds.bundle
  }

  /** Adds public values that would otherwise be taken for secrets. Call it before the texts that have them are added. */
  allow(values: readonly string[]): void {
    this.#scrubber.allow(values)
  }

  /** Adds a text without its secrets, as much of it as there is room for. */
  add(name: string, what: string, text: string): void {
    const whole = Buffer.from(this.#scrubber.clean(text))
    const room = Math.min(this.#bounds.file, this.#left)
    const content = whole.length <= room ? whole : cutAtLine(whole.subarray(0, room))
    if (content.length === 0 && whole.length > 0)
      return this.miss(name, `the bundle has its greatest size, ${this.#bounds.bundle} bytes`)
    const cutBytes = whole.length - content.length
    this.#left -= content.length
    this.#files.push({ name, content })
    this.#kept.push({ name, what, bytes: content.length, ...(cutBytes === 0 ? {} : { cutBytes }) })
  }

  /** Adds a value as JSON. A cut one is no valid JSON any more. */
  addJson(name: string, what: string, value: unknown): void {
    this.add(name, what, `${safeJson(value, 2)}\n`)
  }

  /** Names a file that is not in the bundle. */
  miss(name: string, reason: string): void {
    this.#missing.push({ name, reason: this.#scrubber.clean(reason) })
  }

  /** Returns the compressed archive, whose first file lists the others. All lie in one folder. */
  pack(folder: string, nowMs: number): { readonly archive: Uint8Array; readonly contents: Contents } {
    const contents: Contents = {
      made: new Date(nowMs).toISOString(),
      files: this.#kept,
      missing: this.#missing,
      removed: this.#scrubber.removed
    }
    const first = { name: 'contents.json', content: Buffer.from(`${safeJson(contents, 2)}\n`) }
    const files = [first, ...this.#files].map(({ name, content }) => ({ name: `${folder}/${name}`, content }))
    return { archive: gzipSync(tarOf(files, nowMs / 1000)), contents }
  }
}

/** Ends the text at its last line break, so that no line and no character is cut in two. */
function cutAtLine(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.lastIndexOf('\n') + 1)
}
