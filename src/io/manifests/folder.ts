// The folder as it is on disk: which manifest files it has, and a watch on every directory.
// Events only mark (see manifest-source.ts); a directory is watched before it is listed, so that nothing falls between.
import { watch, type Dirent, type FSWatcher } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Problem } from '../../core/catalog/catalog.ts'
import { reason } from './read-file.ts'

export interface FolderListing {
  /** False: there is no such folder, or it cannot be looked at; `problems` says why. */
  readonly exists: boolean
  readonly files: readonly ListedFile[]
  /** Directories that could not be read; what counted of them goes on counting. */
  readonly unreadable: readonly string[]
  readonly problems: readonly Problem[]
}

export interface ListedFile {
  readonly path: string
  /** Relative to the folder. */
  readonly file: string
  /** Differs whenever the content may have changed. */
  readonly stamp: string
}

interface FolderWatch {
  list(): Promise<FolderListing>
  close(): void
}

// Bounds against a folder that was pointed at the wrong place, such as "/".
const FILES_MAX = 5000
const DEPTH_MAX = 8

/** `onEvent` gets the path that changed, or undefined when it is not known. */
export function watchFolder(folder: string, onEvent: (path: string | undefined) => void): FolderWatch {
  const watches = new Map<string, { readonly inode: bigint; readonly watcher: FSWatcher }>()

  function ensureWatch(target: WatchTarget): Problem | undefined {
    const { key, directory, inode, only } = target
    if (watches.get(key)?.inode === inode) return undefined
    drop(key)
    try {
      const watcher = watch(directory, (_event, name) => {
        if (only === undefined || name === null || name === only) {
          onEvent(name === null ? undefined : join(directory, name))
        }
      })
      watcher.on('error', () => {
        drop(key)
        onEvent(undefined)
      })
      watches.set(key, { inode, watcher })
      return undefined
    } catch (error) {
      return {
        file: shown(directory),
        message: `changes are seen late, for the directory cannot be watched: ${reason(error)}`,
        fix: 'raise fs.inotify.max_user_watches and max_user_instances',
        level: 'warning'
      }
    }
  }

  function drop(key: string): void {
    watches.get(key)?.watcher.close()
    watches.delete(key)
  }

  function shown(path: string): string {
    return relative(folder, path) || folder
  }

  async function list(): Promise<FolderListing> {
    const files: ListedFile[] = []
    const unreadable: string[] = []
    const problems: Problem[] = []
    const seen = new Set<string>()

    async function visit(directory: string, depth: number): Promise<boolean> {
      const found = await directoryAt(directory)
      if (found.kind !== 'directory') {
        if (depth === 0) problems.push(notAFolder(directory, found.kind))
        return false
      }
      const { inode } = found
      const unwatched = ensureWatch({ key: directory, directory, inode })
      seen.add(directory)
      const listed = await entriesOf(directory)
      if (listed.kind === 'gone') {
        if (depth === 0) problems.push(notAFolder(directory, 'missing'))
        return false
      }
      if (listed.kind === 'unreadable') {
        unreadable.push(directory)
        const { message, fix } = listed
        const ofSource = depth === 0 ? ({ ofSource: true } as const) : {}
        problems.push({ file: shown(directory), message, fix, level: 'error', ...ofSource })
        return true
      }
      if (unwatched) problems.push(unwatched)
      const entries = await Promise.all(listed.entries.map((entry) => statEntry(directory, entry)))
      for (const entry of entries) {
        if (entry?.kind === 'directory' && depth < DEPTH_MAX) await visit(entry.path, depth + 1)
        else if (entry?.kind === 'file') {
          files.push({ path: entry.path, file: shown(entry.path), stamp: entry.stamp })
        } else if (entry?.kind === 'refused') {
          const { message, fix } = entry
          problems.push({ file: shown(entry.path), message, fix, level: 'warning' })
        }
      }
      return true
    }

    const exists = await visit(folder, 0)
    const above = await nearestAbove(folder)
    if (above) {
      // It may have appeared between the look for it and this watch: look once more.
      if (!exists && !watches.has(above.key)) onEvent(undefined)
      ensureWatch(above)
      seen.add(above.key)
    }
    for (const key of watches.keys()) if (!seen.has(key)) drop(key)
    if (files.length > FILES_MAX) {
      problems.push({
        file: folder,
        message: `more than ${FILES_MAX} manifests; the rest does not count`,
        fix: 'use fewer, larger files',
        level: 'error'
      })
    }
    return { exists, files: files.slice(0, FILES_MAX), unreadable, problems }
  }

  return {
    list,
    close: () => {
      for (const key of watches.keys()) drop(key)
    }
  }
}

interface WatchTarget {
  readonly key: string
  readonly directory: string
  readonly inode: bigint
  /** Of interest is this name in it only. */
  readonly only?: string
}

/** A folder that is missing, or is deleted and made anew, is seen from the nearest directory above it. */
async function nearestAbove(folder: string): Promise<WatchTarget | undefined> {
  const directory = dirname(folder)
  if (directory === folder) return undefined
  const found = await directoryAt(directory)
  if (found.kind !== 'directory') return nearestAbove(directory)
  const { inode } = found
  // The name awaited changes as missing levels appear: part of the key.
  const only = basename(folder)
  return { key: `${directory}/\0${only}`, directory, inode, only }
}

type Entries =
  | { readonly kind: 'entries'; readonly entries: readonly Dirent[] }
  | { readonly kind: 'unreadable'; readonly message: string; readonly fix: string }
  | { readonly kind: 'gone' }

/** In order of name; those that begin with a dot are temporary files and the bookkeeping of mounted ConfigMaps. */
async function entriesOf(directory: string): Promise<Entries> {
  try {
    const entries = await readdir(directory, { withFileTypes: true })
    const shown = entries.filter(({ name }) => !name.startsWith('.'))
    return { kind: 'entries', entries: shown.sort((a, b) => (a.name < b.name ? -1 : 1)) }
  } catch (error) {
    if (isGone(error)) return { kind: 'gone' }
    return {
      kind: 'unreadable',
      message: `the directory cannot be read: ${reason(error)}`,
      fix: 'make it readable for the user that runs meshd'
    }
  }
}

type Entry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly stamp: string }
  | { readonly kind: 'refused'; readonly path: string; readonly message: string; readonly fix: string }

/** Links to files are followed (a mounted ConfigMap is made of them), links to directories are not: they may close a circle. */
async function statEntry(directory: string, entry: Dirent): Promise<Entry | undefined> {
  const path = join(directory, entry.name)
  if (entry.isDirectory()) return { kind: 'directory', path }
  const isManifest = /\.(ya?ml|json)$/.test(entry.name) && !IS_KUSTOMIZATION.test(entry.name)
  if (!isManifest && !entry.isSymbolicLink()) return undefined
  try {
    const { ino, size, mtimeNs, ctimeNs, file, directory: isDirectory } = await statBig(path)
    if (isDirectory) return { kind: 'refused', path, ...LINK_TO_DIRECTORY }
    if (!isManifest) return undefined
    if (!file) return { kind: 'refused', path, ...NO_FILE }
    return { kind: 'file', path, stamp: `${ino} ${size} ${mtimeNs} ${ctimeNs}` }
  } catch (error) {
    const expected = isGone(error) || codeOf(error) === 'ELOOP' || codeOf(error) === 'EACCES'
    if (!expected) throw error
    // What is no link was deleted a moment ago.
    if (!isManifest || !entry.isSymbolicLink()) return undefined
    const message = `the link leads to no file that can be read, and counts as deleted: ${reason(error)}`
    return { kind: 'refused', path, message, fix: 'correct or remove the link' }
  }
}

const LINK_TO_DIRECTORY = {
  message: 'links to folders are not followed; the manifests there do not count',
  fix: 'put the folder here itself, or set manifests to it'
}

const NO_FILE = {
  message: 'it is a pipe, a socket or a device, and does not count',
  fix: 'put a regular file in its place'
}

/** A file for kustomize, which is no object: it may even have no kind. */
const IS_KUSTOMIZATION = /^kustomization\.ya?ml$/

async function statBig(path: string) {
  const info = await stat(path, { bigint: true })
  const { ino, size, mtimeNs, ctimeNs } = info
  return { ino, size, mtimeNs, ctimeNs, directory: info.isDirectory(), file: info.isFile() }
}

type DirectoryAt =
  { readonly kind: 'directory'; readonly inode: bigint } | { readonly kind: 'missing' | 'file' | 'hidden' }

async function directoryAt(path: string): Promise<DirectoryAt> {
  try {
    const info = await statBig(path)
    return info.directory ? { kind: 'directory', inode: info.ino } : { kind: 'file' }
  } catch (error) {
    if (isGone(error)) return { kind: 'missing' }
    if (codeOf(error) === 'EACCES' || codeOf(error) === 'ELOOP') return { kind: 'hidden' }
    throw error
  }
}

/** Why there are no manifests: the mesh runs without services of this cluster until there are. */
function notAFolder(folder: string, kind: 'missing' | 'file' | 'hidden'): Problem {
  const text = {
    missing: {
      message: 'the folder of manifests does not exist; no new services of this cluster are published',
      fix: 'create it and put Service and EndpointSlice manifests there; they are found without a restart'
    },
    file: {
      message:
        'the setting manifests names a file, not a folder; no new services of this cluster are published',
      fix: 'set manifests to the folder that holds the file'
    },
    hidden: {
      message: 'the folder of manifests cannot be read; no new services of this cluster are published',
      fix: 'let the user that runs meshd read and enter it and each folder above it'
    }
  }[kind]
  return { file: folder, ...text, level: 'warning', ofSource: true }
}

function isGone(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}
