// One manifest file into items. Whatever the file holds, the answer is a value: hostile text costs bounded time and memory.
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { LineCounter, parseAllDocuments, type Document } from 'yaml'
import { readObject, type Item, type Problem } from '../../core/catalog.ts'

export interface FileContent {
  /** What could be read: the sound documents of a file with a broken one, too. */
  readonly items: readonly Item[]
  readonly problems: readonly Problem[]
  /** False when any part could not be read, so that `items` may lack something. */
  readonly sound: boolean
}

/** The YAML parser blocks the event loop for 1–2 s a MiB (measured); 1 MiB holds about 1,500 services with their slices. */
export const FILE_BYTES_MAX = 1024 * 1024
const DOCUMENTS_MAX = 10_000
// An alias bomb ("billion laughs") expands by reuse; manifests made by people use a handful.
const ALIASES_MAX = 100

/** `path` is read, `file` names it in problems. undefined: no such file (any more). */
export async function readManifestFile(path: string, file: string): Promise<FileContent | undefined> {
  const raw = await readBounded(path)
  if (raw.kind === 'gone') return undefined
  if (raw.kind === 'refused') return broken({ file, message: raw.message, fix: raw.fix })
  const text = decodeUtf8(raw.bytes)
  if (text === undefined) {
    return broken({ file, message: 'the file is not UTF-8 text', fix: 'save it as UTF-8' })
  }
  return file.endsWith('.json') ? readJson(text, file) : readYaml(text, file)
}

export function readYaml(text: string, file: string): FileContent {
  const lines = new LineCounter()
  try {
    const documents = parseAllDocuments(text, { lineCounter: lines, stringKeys: true, logLevel: 'error' })
    if (!Array.isArray(documents)) return { items: [], problems: [], sound: true }
    if (documents.length > DOCUMENTS_MAX) {
      return broken({ file, message: `more than ${DOCUMENTS_MAX} documents`, fix: 'split the file' })
    }
    return merge(documents.map((document) => readDocument(document, { file, lines })))
  } catch (error) {
    // Nesting deeper than the stack is the one thing that the parser answers by throwing.
    return broken({
      file,
      message: `not readable as YAML: ${reason(error)}`,
      fix: 'nest less deeply, or correct the syntax'
    })
  }
}

function readDocument(document: Document, place: { file: string; lines: LineCounter }): FileContent {
  const { file, lines } = place
  const error = document.errors[0]
  if (error) {
    const where = `line ${lines.linePos(error.pos[0]).line}`
    // Its first line; the rest is an excerpt of the text with a caret.
    const message = `malformed YAML: ${error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '')}`
    return broken({ file, where, message, fix: 'correct the syntax; the other documents still count' })
  }
  const line = lines.linePos(document.contents?.range?.[0] ?? document.range?.[0] ?? 0).line
  const where = `line ${line || 1}`
  try {
    const object: unknown = document.toJS({ maxAliasCount: ALIASES_MAX })
    return { items: readObject(object, { file, where }), problems: [], sound: true }
  } catch (error) {
    const message = `malformed YAML: ${reason(error)}`
    return broken({ file, where, message, fix: 'write the values out instead of using aliases' })
  }
}

function readJson(text: string, file: string): FileContent {
  if (text.trim() === '') return { items: [], problems: [], sound: true }
  try {
    return { items: readObject(JSON.parse(text), { file }), problems: [], sound: true }
  } catch (error) {
    return broken({ file, message: `malformed JSON: ${reason(error)}`, fix: 'correct the syntax' })
  }
}

type Raw =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'gone' }
  | { readonly kind: 'refused'; readonly message: string; readonly fix: string }

async function readBounded(path: string): Promise<Raw> {
  try {
    // Non-blocking: opening a FIFO that was put here must not hang the agent.
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stat = await handle.stat()
    if (!stat.isFile()) return { kind: 'gone' }
    if (stat.size > FILE_BYTES_MAX) return tooLarge(stat.size)
    // A file that grows while we read it is cut off here; the event of its growing has us read it again.
    const buffer = new Uint8Array(stat.size)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return { kind: 'bytes', bytes: buffer.subarray(0, length) }
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'gone' }
    return {
      kind: 'refused',
      message: `the file cannot be read: ${reason(error)}`,
      fix: code === 'EACCES' ? 'make it readable for the user that runs meshd' : 'check the file'
    }
  }
}

function tooLarge(bytes: number): Raw {
  return {
    kind: 'refused',
    message: `the file has ${bytes} bytes, above the limit of ${FILE_BYTES_MAX}`,
    fix: 'split it into several files'
  }
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

function broken(problem: Omit<Problem, 'level'>): FileContent {
  return { items: [], problems: [{ ...problem, level: 'error' }], sound: false }
}

function merge(parts: readonly FileContent[]): FileContent {
  return {
    items: parts.flatMap((part) => part.items),
    problems: parts.flatMap((part) => part.problems),
    sound: parts.every((part) => part.sound)
  }
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 300) : String(error)
}
