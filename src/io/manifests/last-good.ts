// The objects that count of each manifest file, on disk. A document that is broken when the agent starts then counts
// in its last good form, as it would have without the restart (docs/decisions/0051). There is one JSON file for each
// manifest file, below the state directory.
// Invariant: what is read back is exactly what was written (a checksum), or nothing. The loss of a file costs only
// the last good forms.
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Item } from '../../core/catalog/catalog.ts'
import { isFields } from '../../core/model/field-check.ts'
import { goodOf, type DocumentState, type FileState } from './file-state.ts'

/** The stored state of all manifest files of one folder. */
interface LastGood {
  /**
   * Resolves to the states by path of the manifest file. Files that cannot be read, or belong to another folder, are
   * left out and removed.
   */
  load(): Promise<ReadonlyMap<string, FileState>>
  /**
   * Writes the objects of one manifest file that count. `documents` undefined: the file is removed, because nothing
   * counts any more. Rejects with errors of the disk.
   */
  save(
    of: { readonly path: string; readonly file: string },
    documents: readonly DocumentState[] | undefined
  ): Promise<void>
}

/** `memory`: the directory, created when its parent exists; `folder`: only manifests of this folder are loaded. */
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
      // The file is written beside the target and renamed, so that a crash leaves the old file or the new one.
      const temporary = `${target}.tmp`
      await writeFile(temporary, `${checksum(text)}\n${text}`, { mode: 0o600 })
      await rename(temporary, target)
    }
  }
}

const VERSION = 1

/** One document on disk. `broken`: it could not be parsed, and `items` are its last good forms. */
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

/** The names of the stored files; none when the directory does not exist or cannot be read. */
async function namesOf(memory: string): Promise<readonly string[]> {
  try {
    return (await readdir(memory)).filter((name) => name.endsWith('.json'))
  } catch {
    // The directory does not exist yet or cannot be read: no state is known.
    return []
  }
}

/** One stored file; undefined when it is damaged or of another version. */
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
    // The file is damaged, or the disk fails: its state is not known.
    return undefined
  }
}

/**
 * Whether the content has the right version and shape. More checks are not needed: the checksum shows that this
 * program wrote it.
 */
function isStoredFile(value: unknown): value is StoredFile {
  return isFields(value) && value['version'] === VERSION && Array.isArray(value['documents'])
}

/** The state of a document after a restart. A broken one has a placeholder fault until the file is read. */
function documentOf({ id, broken, items }: Stored, file: string): DocumentState {
  const fault = { file, message: 'not read since the start', level: 'error' } as const
  return broken
    ? { id, line: 0, items: [], fault, text: '', kept: items, isRecalled: true }
    : { id, line: 0, items, fault: undefined, text: '', kept: [], isRecalled: true }
}

function checksum(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
