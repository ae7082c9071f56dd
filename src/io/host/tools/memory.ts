// Remembers on disk what the kernel cannot tell after a restart: the values of sysctls before this agent changed them,
// and which service prefixes were ours. The file is host.json in the folder `host` of the state folder.
// Invariant: the file is written before the kernel is changed. If the disk takes no writes, the kernel is changed all
// the same (docs/decisions/0011-memory-while-the-disk-fails.md). The agent calls `mend` every second, which then writes
// the file or reports why it cannot.
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../../core/model/coded-error.ts'
import { HostError } from '../errors.ts'

/** The content of host.json. The two collections change with the calls of `remember…`. */
export interface HostMemory {
  /** Value of each sysctl before our first change, by name. */
  readonly sysctls: ReadonlyMap<string, string>
  /** Service prefixes that this host has balanced. None is ever removed but by `forget`. */
  readonly vipPrefixes: ReadonlySet<string>
  /**
   * Records the value of a sysctl, unless a value of this sysctl is recorded already. Never rejects: `mend` reports
   * errors of the disk.
   */
  rememberSysctl(name: string, prior: string): Promise<void>
  /** Records service prefixes. Never rejects. */
  rememberVips(prefixes: readonly string[]): Promise<void>
  /** Writes the file if it has been removed or could not be written before. Rejects with errors of the file system. */
  mend(): Promise<void>
  /** Removes all records and the file, after a cleanup. */
  forget(): Promise<void>
}

/** Reads the file; without one there are no records. Errors: STATE_UNREADABLE if it cannot be read or parsed. */
export async function openHostMemory(stateFolder: string): Promise<HostMemory> {
  const path = join(stateFolder, 'host.json')
  const { sysctls, vipPrefixes } = await load(path)
  let isWritten = true
  let writing: Promise<unknown> = Promise.resolve()
  /** Runs one write at a time, because all of them write to the same temporary file. */
  const save = () => {
    const result = writing.then(write)
    writing = result.catch(() => undefined)
    return result
  }
  const remember = () => save().catch(() => undefined)
  const write = async () => {
    isWritten = false
    await mkdir(stateFolder, { recursive: true, mode: 0o700 })
    const text = JSON.stringify(
      { sysctls: Object.fromEntries(sysctls), vipPrefixes: [...vipPrefixes] },
      null,
      2
    )
    // The text is written to another file, synced and renamed, so that a crash leaves the old or the new file, whole.
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.writeFile(`${text}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
    isWritten = true
  }
  return {
    sysctls,
    vipPrefixes,
    async rememberSysctl(name, prior) {
      if (sysctls.has(name)) return
      sysctls.set(name, prior)
      await remember()
    },
    async rememberVips(prefixes) {
      const news = prefixes.filter((prefix) => !vipPrefixes.has(prefix))
      if (news.length === 0) return
      for (const prefix of news) vipPrefixes.add(prefix)
      await remember()
    },
    async mend() {
      if (sysctls.size + vipPrefixes.size > 0 && (!isWritten || !existsSync(path))) await save()
    },
    async forget() {
      sysctls.clear()
      vipPrefixes.clear()
      await rm(path, { force: true })
    }
  }
}

async function load(path: string): Promise<{ sysctls: Map<string, string>; vipPrefixes: Set<string> }> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined
    throw unreadable(path, error)
  })
  if (text === undefined) return { sysctls: new Map(), vipPrefixes: new Set() }
  try {
    const value: unknown = JSON.parse(text)
    return {
      sysctls: strings(field(value, 'sysctls')),
      vipPrefixes: new Set(list(field(value, 'vipPrefixes')))
    }
  } catch (error) {
    throw unreadable(path, error)
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && name in value
    ? (value as Record<string, unknown>)[name]
    : undefined
}

/** Throws a TypeError for a value that is not an object of strings. */
function strings(value: unknown): Map<string, string> {
  if (typeof value !== 'object' || value === null) throw new TypeError('expected an object')
  return new Map(Object.entries(value).map(([key, item]) => [key, text(item)]))
}

function list(value: unknown): string[] {
  if (!Array.isArray(value)) throw new TypeError('expected a list')
  return value.map(text)
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('expected a string')
  return value
}

function unreadable(path: string, cause: unknown): HostError {
  return new HostError({
    code: 'STATE_UNREADABLE',
    message: `cannot read ${path}`,
    fix: `remove the file (rm ${path}); \`meshctl leave\` then does not restore the earlier values of sysctls`,
    cause
  })
}
