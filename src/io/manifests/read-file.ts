// Reads one manifest file into documents, for manifest-source.ts. Any content gives a value, never an exception.
// Hostile text costs bounded time and memory, and the event loop is never blocked for longer than one document takes.
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Item, Problem } from '../../core/catalog/catalog.ts'
import { readObject } from '../../core/catalog/folder-policy.ts'
import { isFields } from '../../core/model/field-check.ts'
import { splitDocuments, splitList, type Chunk } from './documents.ts'
import { parseYaml, type Parsed } from './parse-yaml.ts'

/** A YAML document, or an item of a List: the unit that can be malformed by itself. */
export interface ReadDocument {
  /** A hash of the text, so that equal texts have equal ids; '' where it is not known (JSON). */
  readonly id: string
  /** The number of lines of the document before its content. */
  readonly line: number
  readonly items: readonly Item[]
  /** Why the document cannot be parsed, and then `items` is empty; undefined otherwise. */
  readonly fault: Problem | undefined
  /** The text of a document that cannot be parsed; '' otherwise. */
  readonly text: string
}

/** `unreadable`: nothing of the file can be read. */
export type FileContent =
  | { readonly kind: 'documents'; readonly documents: readonly ReadDocument[] }
  | { readonly kind: 'unreadable'; readonly problem: Problem }

/** 32 MiB: about 20,000 services with their slices. A file is read into memory as a whole. */
export const FILE_BYTES_MAX = 32 * 1024 * 1024
/**
 * The parser blocks the event loop for 1–2 s for each MiB (measured). An object of the Kubernetes API has at most 1.5
 * MiB.
 */
const DOCUMENT_CHARACTERS_MAX = 1536 * 1024
const DOCUMENTS_MAX = 100_000
// After this many milliseconds of parsing, the event loop gets a turn.
const TURN_MS = 8

/** Documents that were parsed before, by id. They are not parsed again. */
export type KnownDocuments = ReadonlyMap<string, Pick<ReadDocument, 'line' | 'items'>>

/**
 * Reads and parses one file. `path` is read, `file` names it in problems. Resolves to undefined when there is no such
 * file (any more).
 */
export async function readManifestFile(
  path: string,
  file: string,
  known: KnownDocuments = new Map()
): Promise<FileContent | undefined> {
  const raw = await readBounded(path)
  if (raw.kind === 'gone') return undefined
  if (raw.kind === 'refused') return unreadable({ file, message: raw.message, fix: raw.fix })
  const text = decodeUtf8(raw.bytes)
  if (text === undefined)
    return unreadable({ file, message: 'the file is not UTF-8 text', fix: 'save the file as UTF-8' })
  if (file.endsWith('.json')) return readJson(text, file)
  const documents: ReadDocument[] = []
  let turnMs = performance.now()
  for (const document of yamlDocuments(text, file, known)) {
    documents.push(document)
    if (documents.length > DOCUMENTS_MAX) return tooMany(file)
    if (performance.now() - turnMs < TURN_MS) continue
    await nextTurn()
    turnMs = performance.now()
  }
  return { kind: 'documents', documents }
}

/** The documents of a YAML text, one after the other. Each is parsed when it is asked for. */
export function* yamlDocuments(
  text: string,
  file: string,
  known: KnownDocuments = new Map()
): Iterable<ReadDocument> {
  // A byte order mark may begin a file, or the part of a file that was appended from another file.
  for (const document of splitDocuments(text.replaceAll('\r\n', '\n').replaceAll(/^\uFEFF/gm, '')))
    for (const chunk of splitList(document) ?? [document]) yield readChunk(chunk, file, known)
}

/** One document, from its text or from the known documents. */
function readChunk(chunk: Chunk, file: string, known: KnownDocuments): ReadDocument {
  const id = idOf(chunk.list === undefined ? chunk.text : `${chunk.list}\0${chunk.text}`)
  const before = known.get(id)
  if (before !== undefined) {
    const where = lineText(chunk.line + before.line)
    return {
      id,
      line: before.line,
      items: before.items.map((item) => ({ ...item, where })),
      fault: undefined,
      text: ''
    }
  }
  const parsed = parseChunk(chunk)
  const where = lineText(chunk.line + parsed.line)
  if (parsed.kind === 'malformed') {
    const fault: Problem = { file, where, message: parsed.message, fix: parsed.fix, level: 'error' }
    return { id, line: 0, items: [], fault, text: chunk.text }
  }
  return {
    id,
    line: parsed.line,
    items: readObject(parsed.object, { file, where }),
    fault: undefined,
    text: ''
  }
}

function parseChunk({ text, list }: Chunk): Parsed {
  if (text.length > DOCUMENT_CHARACTERS_MAX) return tooLong(text)
  const parsed = parseYaml(text)
  if (list === undefined || parsed.kind === 'malformed') return parsed
  const head = parseYaml(list)
  // The line of the List belongs to another part of the file, so the line of the item is reported.
  if (head.kind === 'malformed')
    return { ...head, line: parsed.line, message: `the List of this item: ${head.message}` }
  return { ...parsed, object: { ...(isFields(head.object) ? head.object : {}), items: [parsed.object] } }
}

/**
 * The result for a document above DOCUMENT_CHARACTERS_MAX. Documents of other kinds, such as a
 * CustomResourceDefinition, are ignored without a fault.
 */
function tooLong(text: string): Parsed {
  const kind = /^kind:[ \t]*["']?(\w+)/m.exec(text)?.[1]
  const isOurs = kind === undefined || /^(Service|EndpointSlice|Endpoints|\w*List)$/.test(kind)
  if (!isOurs) return { kind: 'object', object: undefined, line: 0 }
  return {
    kind: 'malformed',
    message: `the document has ${text.length} characters, above the limit of ${DOCUMENT_CHARACTERS_MAX}`,
    line: 0,
    fix: 'split the document: one document for each object'
  }
}

/**
 * The objects of a JSON file. A malformed file has no documents at all, because the ends of its objects cannot be
 * found.
 */
function readJson(text: string, file: string): FileContent {
  if (text.trim() === '') return { kind: 'documents', documents: [] }
  try {
    const items = readObject(JSON.parse(text), { file })
    return {
      kind: 'documents',
      documents: items.map((item) => ({ id: '', line: 0, items: [item], fault: undefined, text: '' }))
    }
  } catch (error) {
    return unreadable({ file, message: `malformed JSON: ${reason(error)}`, fix: 'correct the syntax' })
  }
}

/** The bytes of a file, or why there are none. */
type Raw =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'gone' }
  | { readonly kind: 'refused'; readonly message: string; readonly fix: string }

/** Reads at most FILE_BYTES_MAX bytes of a regular file. */
async function readBounded(path: string): Promise<Raw> {
  try {
    // O_NONBLOCK: open(2) of a FIFO without a writer would otherwise wait forever.
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stat = await handle.stat()
    if (!stat.isFile()) return { kind: 'gone' }
    if (stat.size > FILE_BYTES_MAX) return tooLarge(stat.size)
    // A file that grows during the read is cut off here. The event of its growth causes another read.
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
      fix:
        code === 'EACCES'
          ? 'make the file readable for the user that runs meshd'
          : 'check the file and its disk'
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

function tooMany(file: string): FileContent {
  return unreadable({
    file,
    message: `the file has more than ${DOCUMENTS_MAX} documents`,
    fix: 'split it into several files'
  })
}

/** The text; undefined when the bytes are not UTF-8. */
function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

function unreadable(problem: Omit<Problem, 'level'>): FileContent {
  return { kind: 'unreadable', problem: { ...problem, level: 'error' } }
}

function lineText(line: number): string {
  return `line ${line + 1}`
}

/** SHA-256 of a text in base64url. */
function idOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

/** The message of an error, at most 300 characters, for problems. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 300) : String(error)
}
