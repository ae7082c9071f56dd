// What the kernel cannot tell us after a restart: sysctls as they were before us, and which service prefixes were ours.
// Invariant: written to disk before the change that it remembers. Where the disk takes nothing, the change is made all the same, and `mend`,
// which the agent calls again and again, writes what is missing and says why it cannot.
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../../core/model/coded-error.ts'
import { HostError } from '../errors.ts'

export interface HostMemory {
  /** Name to the value before our first change. */
  readonly sysctls: ReadonlyMap<string, string>
  readonly vipPrefixes: ReadonlySet<string>
  rememberSysctl(name: string, prior: string): Promise<void>
  rememberVips(prefixes: readonly string[]): Promise<void>
  /** Writes the file if it has been removed, or could not be written before. Errors: those of the disk. */
  mend(): Promise<void>
  forget(): Promise<void>
}

/** Errors: STATE_UNREADABLE when the file is there but broken. */
export async function openHostMemory(stateFolder: string): Promise<HostMemory> {
  const path = join(stateFolder, 'host.json')
  const { sysctls, vipPrefixes } = await load(path)
  let isWritten = true
  let writing: Promise<unknown> = Promise.resolve()
  /** One at a time: all write to one file first. */
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
    fix: 'remove the file; the sysctls of before are then not restored by an uninstall',
    cause
  })
}
