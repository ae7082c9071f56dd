// The folder as it is on disk: which manifest files it has, and one fs.watch for each directory
// (docs/decisions/0005). Events only tell manifest-source.ts to list again. A directory is watched before it is
// listed, so that no change between the two is missed.
// Source: inotify(7), which fs.watch uses on Linux.
import { watch, type Dirent, type FSWatcher } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Problem } from '../../core/catalog/catalog.ts'
import { reason } from './read-file.ts'

/** The result of one pass over the folder. */
export interface FolderListing {
  /** False: the folder does not exist or cannot be entered; `problems` has the reason. */
  readonly exists: boolean
  readonly files: readonly ListedFile[]
  /** Directories that exist and could not be read. What counted of their files still counts. */
  readonly unreadable: readonly string[]
  readonly problems: readonly Problem[]
}

/** One manifest file. */
export interface ListedFile {
  readonly path: string
  /** The path relative to the folder, for messages. */
  readonly file: string
  /** Inode, size and times of the file. It differs whenever the content may have changed. */
  readonly stamp: string
}

/** The watches on the folder and its subdirectories. */
interface FolderWatch {
  /**
   * Lists the folder, and sets and removes watches to match. Rejects on unexpected errors, such as those of the disk.
   */
  list(): Promise<FolderListing>
  close(): void
}

// Bounds for a setting that points to the wrong folder, such as "/".
const FILES_MAX = 5000
const DEPTH_MAX = 8

/**
 * Begins without watches; the first list() sets them. `onEvent` gets the path that changed, or undefined when it is
 * not known. Call close() at the end.
 */
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
        message: `the agent cannot watch the directory and sees changes later: ${reason(error)}`,
        fix: 'raise the limits: sysctl -w fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024',
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
      // The folder may have appeared between the first check and this watch, so one more listing is needed.
      if (!exists && !watches.has(above.key)) onEvent(undefined)
      ensureWatch(above)
      seen.add(above.key)
    }
    for (const key of watches.keys()) if (!seen.has(key)) drop(key)
    if (files.length > FILES_MAX) {
      problems.push({
        file: folder,
        message: `the folder has more than ${FILES_MAX} manifests; the other files are not read`,
        fix: 'put several objects into one file',
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

/**
 * A directory to watch. `key` names the watch; a new inode means that the directory was replaced, so the watch is set
 * again.
 */
interface WatchTarget {
  readonly key: string
  readonly directory: string
  readonly inode: bigint
  /** Only events with this name are of interest. */
  readonly only?: string
}

/**
 * The nearest existing directory above the folder. A folder that is missing, or is deleted and created again, is
 * noticed from there.
 */
async function nearestAbove(folder: string): Promise<WatchTarget | undefined> {
  const directory = dirname(folder)
  if (directory === folder) return undefined
  const found = await directoryAt(directory)
  if (found.kind !== 'directory') return nearestAbove(directory)
  const { inode } = found
  // The next missing name changes as levels appear, so it is part of the key.
  const only = basename(folder)
  return { key: `${directory}/\0${only}`, directory, inode, only }
}

type Entries =
  | { readonly kind: 'entries'; readonly entries: readonly Dirent[] }
  | { readonly kind: 'unreadable'; readonly message: string; readonly fix: string }
  | { readonly kind: 'gone' }

/**
 * The entries in the order of names. Names with a leading dot are left out: temporary files, and the internal links
 * of mounted ConfigMaps.
 */
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

/**
 * One entry; undefined when it is of no interest. Links to files are followed, because a mounted ConfigMap consists
 * of them. Links to directories are not, because they may form a loop.
 */
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
    // An entry that is no link was deleted a moment ago.
    if (!isManifest || !entry.isSymbolicLink()) return undefined
    const message = `the target of the link cannot be read, so the file counts as deleted: ${reason(error)}`
    return { kind: 'refused', path, message, fix: 'correct or remove the link' }
  }
}

const LINK_TO_DIRECTORY = {
  message: 'this is a link to a folder, which the agent does not follow; the manifests there are not read',
  fix: 'move the folder itself to this place, or set manifests to its path'
}

const NO_FILE = {
  message: 'this is a pipe, a socket or a device, which the agent does not read',
  fix: 'put a regular file in its place'
}

/** The name of a file for kustomize. It is no object, and may have no kind. */
const IS_KUSTOMIZATION = /^kustomization\.ya?ml$/

/** stat(2) with nanoseconds and 64-bit inodes. */
async function statBig(path: string) {
  const info = await stat(path, { bigint: true })
  const { ino, size, mtimeNs, ctimeNs } = info
  return { ino, size, mtimeNs, ctimeNs, directory: info.isDirectory(), file: info.isFile() }
}

type DirectoryAt =
  { readonly kind: 'directory'; readonly inode: bigint } | { readonly kind: 'missing' | 'file' | 'hidden' }

/** Returns the kind of a path; `hidden` means that permissions or a loop of links prevent the check. */
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

/**
 * The problem of a folder that has no manifests to read. The mesh runs without services of this cluster until it has.
 */
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
      fix: 'give the user that runs meshd the rights to read this folder and to enter each folder above it'
    }
  }[kind]
  return { file: folder, ...text, level: 'warning', ofSource: true }
}

/** Whether the error says that the path does not exist. */
function isGone(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}
