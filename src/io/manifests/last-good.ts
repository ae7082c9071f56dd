// What counted of each file, on disk: a document that is broken when the agent starts counts by its last good form, as it would have
// without the restart. A file of our own for each manifest file, written when what counts of it has changed.
// Invariant: what is read back is what was written, whole (a checksum), or nothing. Losing it costs the last good forms, no more.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Item } from '../../core/catalog/catalog.ts'
import { isFields } from '../../core/model/field-check.ts'
import { goodOf, type DocumentState, type FileState } from './file-state.ts'

interface LastGood {
  /** By path; what cannot be read is left out. */
  load(): Promise<ReadonlyMap<string, FileState>>
  /** `documents` undefined: nothing counts of it any more. Errors: those of the disk. */
  save(
    of: { readonly path: string; readonly file: string },
    documents: readonly DocumentState[] | undefined
  ): Promise<void>
}

/** `memory`: a directory, made where its parent is there; `folder`: only manifests of this one are loaded. */
export function lastGoodIn({
  memory,
  folder
}: {
  readonly memory: string
  readonly folder: string
}): LastGood {
  return {
    async load() {
      const files = new Map<string, FileState>()
      for (const name of await namesOf(memory)) {
        const read = await readOne(join(memory, name))
        if (read?.folder === folder) files.set(read.path, read.state)
        else await rm(join(memory, name), { force: true })
      }
      return files
    },

    async save({ path, file }, documents) {
      const target = join(memory, `${createHash('sha256').update(path).digest('hex').slice(0, 32)}.json`)
      const kept = documents?.flatMap(storedOf) ?? []
      if (kept.every(({ items }) => items.length === 0)) return rm(target, { force: true })
      await mkdir(memory, { mode: 0o700 }).catch((error: unknown) => {
        if (codeOf(error) !== 'EEXIST') throw error
      })
      const text = JSON.stringify({ version: VERSION, folder, path, file, documents: kept })
      const temporary = `${target}.tmp`
      await writeFile(temporary, `${checksum(text)}\n${text}`, { mode: 0o600 })
      await rename(temporary, target)
    }
  }
}

const VERSION = 1

interface Stored {
  readonly id: string
  readonly broken: boolean
  readonly items: readonly Item[]
}

interface StoredFile {
  readonly version: number
  readonly folder: string
  readonly path: string
  readonly file: string
  readonly documents: readonly Stored[]
}

function storedOf(document: DocumentState): Stored {
  return { id: document.id, broken: document.fault !== undefined, items: goodOf(document) }
}

async function namesOf(memory: string): Promise<readonly string[]> {
  try {
    return (await readdir(memory)).filter((name) => name.endsWith('.json'))
  } catch {
    // There is none yet, or it cannot be read: nothing is known.
    return []
  }
}

async function readOne(
  path: string
): Promise<{ readonly folder: string; readonly path: string; readonly state: FileState } | undefined> {
  try {
    const [sum, ...rest] = (await readFile(path, 'utf8')).split('\n')
    const text = rest.join('\n')
    if (sum !== checksum(text)) return undefined
    const parsed: unknown = JSON.parse(text)
    if (!isStoredFile(parsed)) return undefined
    const documents = parsed.documents.map((stored) => documentOf(stored, parsed.file))
    return { ...parsed, state: { documents, problem: undefined, doubt: undefined } }
  } catch {
    // Damaged, or of a disk that fails: not known.
    return undefined
  }
}

/** What the checksum covers was written by this program, so that version and shape say enough. */
function isStoredFile(value: unknown): value is StoredFile {
  return isFields(value) && value['version'] === VERSION && Array.isArray(value['documents'])
}

function documentOf({ id, broken, items }: Stored, file: string): DocumentState {
  const fault = { file, message: 'not read since the start', level: 'error' } as const
  return broken
    ? { id, line: 0, items: [], fault, text: '', kept: items, isRecalled: true }
    : { id, line: 0, items, fault: undefined, text: '', kept: [], isRecalled: true }
}

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
