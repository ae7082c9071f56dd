// A folder of Kubernetes manifests as the source of this cluster's services, for sites without Kubernetes. It watches
// the folder, reads what changed, and passes snapshots to src/app/sources/source.ts.
// Invariants
//   1. Events only mark. One loop reads, and its passes never overlap.
//   2. A pass that finds no change calls nothing.
//   3. A folder that is missing or unreadable never withdraws what was read before (fail static). When nothing was
//      read before, the cluster has no services, and everything else works.
import { relative, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { catalog, type CatalogOptions, type Problem } from '../../core/catalog/catalog.ts'
import { EXPORT_ALL, type ExportPolicy } from '../../core/catalog/export-policy.ts'
import { leaving } from '../../core/catalog/folder-policy.ts'
import type { Snapshot } from '../../core/model/values.ts'
import { Loop } from '../timing/loop.ts'
import { itemsOf, nextFileState, problemsOf, type FileState } from './file-state.ts'
import { watchFolder, type FolderListing, type ListedFile } from './folder.ts'
import { lastGoodIn } from './last-good.ts'
import { readManifestFile, reason, type KnownDocuments } from './read-file.ts'

/** The folder, and where its content goes. */
interface ManifestSourceOptions {
  readonly folder: string
  /**
   * Called after the first pass, and then when the snapshot or the problems change. `whole` is always true: the
   * snapshot is everything that the folder has.
   */
  readonly onSnapshot: (
    snapshot: Snapshot,
    problems: readonly Problem[],
    state: { readonly whole: boolean }
  ) => void
  /** The directory for the last good form of each document (last-good.ts). Absent: a restart forgets them. */
  readonly memory?: string
  /**
   * Called in every pass, because prefixes are known only after joining; call `refresh` when they change. Absent: no
   * checks of addresses.
   */
  readonly catalogOptions?: () => CatalogOptions
  /** Decides which services are exported. Default: all but default/kubernetes. */
  readonly policy?: ExportPolicy
  /** Stops the source when it is aborted. */
  readonly signal?: AbortSignal
}

export interface ManifestSource {
  /**
   * Resolves after the first pass, or when stop() is called before its end. Rejects when the signal is aborted
   * already.
   */
  start(): Promise<void>
  /** Starts a pass soon, also without an event. */
  refresh(): void
  /** Closes all watches; resolves when a running pass has ended. onSnapshot is not called afterwards. */
  stop(): Promise<void>
}

// The longest pause between two passes, for changes without an event: network file systems, or a directory that could
// not be watched. Unchanged files are not read.
const RESCAN_MS = 5000

/** Creates a source; start() begins the passes. */
export function createManifestSource(options: ManifestSourceOptions): ManifestSource {
  const folder = resolve(options.folder)
  const files = new Map<string, KnownFile>()
  const touched = new Set<string>()
  const unsaved = new Set<string>()
  const lastGood = options.memory === undefined ? undefined : lastGoodIn({ memory: options.memory, folder })
  let memoryProblem: Problem | undefined
  let isLoaded = false
  let last: { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } | undefined
  const firstPass = Promise.withResolvers<void>()
  const loop = new Loop({
    act: async (signal) => {
      try {
        return await pass(signal).catch((error: unknown) => reportFailure(error, signal))
      } finally {
        firstPass.resolve()
      }
    },
    intervalMs: RESCAN_MS,
    // The timer does not keep the process alive: a watched folder alone is no reason to run.
    keepsProcess: false
  })
  const watching = watchFolder(folder, (path) => {
    if (path !== undefined) touched.add(path)
    loop.mark()
  })

  /**
   * Lists the folder, reads what changed and publishes the result. Resolves to the time until the next pass, in
   * milliseconds: RESCAN_MS, or less while an object is in doubt.
   */
  async function pass(signal: AbortSignal): Promise<number> {
    const force = new Set(touched)
    touched.clear()
    await recall()
    const listing = await watching.list()
    if (listing.exists) await readChanged(listing, force)
    if (signal.aborted) return RESCAN_MS
    publish(listing.problems)
    if (await remember()) publish(listing.problems)
    const doubts = [...files.values()].flatMap(({ state }) => (state.doubt ? [state.doubt.untilMs] : []))
    return Math.max(1, Math.min(RESCAN_MS, ...doubts.map((untilMs) => untilMs - performance.now() + 1)))
  }

  /**
   * Reads files that changed or are in doubt, and settles files that are gone. Files in unreadable directories stay
   * as they are.
   */
  async function readChanged(listing: FolderListing, force: ReadonlySet<string>): Promise<void> {
    const listed = new Set(listing.files.map(({ path }) => path))
    for (const file of listing.files) {
      const known = files.get(file.path)
      const changed = known?.stamp !== file.stamp || force.has(file.path)
      if (changed || known.state.doubt) await readOne(file, changed)
    }
    for (const [path, known] of files) {
      if (listed.has(path) || listing.unreadable.some((directory) => path.startsWith(`${directory}/`)))
        continue
      settle({ path, file: known.file, stamp: '' }, { content: undefined, changed: known.stamp !== '' })
    }
  }

  async function readOne(file: ListedFile, changed: boolean): Promise<void> {
    const known = files.get(file.path)
    const content = await readManifestFile(file.path, file.file, knownDocuments(known?.state))
    settle(file, { content, changed })
  }

  /** Loads the last good forms of the run before, once. */
  async function recall(): Promise<void> {
    if (isLoaded) return
    isLoaded = true
    for (const [path, state] of (await lastGood?.load()) ?? [])
      files.set(path, { file: relative(folder, path), stamp: UNREAD, state })
  }

  /**
   * Saves the files whose objects changed, after the change was published. True: the problem of saving appeared or
   * went away.
   */
  async function remember(): Promise<boolean> {
    if (lastGood === undefined) return false
    const before = memoryProblem
    for (const path of unsaved) {
      const known = files.get(path)
      try {
        await lastGood.save({ path, file: known?.file ?? '' }, known?.state.documents)
        unsaved.delete(path)
        memoryProblem = undefined
      } catch (error) {
        memoryProblem = notRemembered(options.memory ?? '', error)
      }
    }
    return memoryProblem?.message !== before?.message
  }

  /** Computes the next state of one file. */
  function settle(
    { path, file, stamp }: ListedFile,
    found: Pick<Parameters<typeof nextFileState>[0], 'content' | 'changed'>
  ): void {
    const before = files.get(path)?.state
    const state = nextFileState({ before, nowMs: performance.now(), ...found })
    if (state?.documents !== before?.documents) unsaved.add(path)
    if (state) files.set(path, { file, stamp, state })
    else files.delete(path)
  }

  /** Calls onSnapshot when the snapshot or the problems differ from the last call. */
  function publish(folderProblems: readonly Problem[]): void {
    const known = [...files.values()].sort((a, b) => (a.file < b.file ? -1 : 1))
    const left = leaving(
      known.flatMap(({ state }) => itemsOf(state)),
      options.policy ?? EXPORT_ALL
    )
    const read = catalog(left.items, options.catalogOptions?.())
    const problems = [
      ...folderProblems,
      ...(memoryProblem === undefined ? [] : [memoryProblem]),
      ...known.flatMap(({ state }) => problemsOf(state)),
      ...left.problems,
      ...read.problems
    ]
    const now = { snapshot: read.snapshot, problems }
    if (isDeepStrictEqual(now, last)) return
    last = now
    options.onSnapshot(now.snapshot, problems, { whole: true })
  }

  /**
   * Reports a pass that failed, for example with an error of the disk. What was read stays, and the next pass follows
   * after RESCAN_MS.
   */
  function reportFailure(error: unknown, signal: AbortSignal): number {
    if (!signal.aborted) {
      publish([
        {
          file: folder,
          message: `the folder cannot be read: ${reason(error)}`,
          fix: 'check the disk and the permissions',
          level: 'error',
          ofSource: true
        }
      ])
    }
    return RESCAN_MS
  }

  async function stop(): Promise<void> {
    const loopEnded = loop.stop()
    watching.close()
    await loopEnded
    firstPass.resolve()
    // A pass that was under way may have opened watches after the first close.
    watching.close()
  }

  return {
    start: async () => {
      options.signal?.throwIfAborted()
      options.signal?.addEventListener('abort', () => void stop(), { once: true })
      loop.start()
      await firstPass.promise
    },
    refresh: () => loop.mark(),
    stop
  }
}

// The stamp of a file that was not read since the start; no real file has it.
const UNREAD = 'unread'

/**
 * The documents that need no parsing when their text is the same: those that were parsed in this run, without a
 * fault.
 */
function knownDocuments(state: FileState | undefined): KnownDocuments {
  const whole = (state?.documents ?? []).filter(
    ({ id, fault, isRecalled }) => id !== '' && fault === undefined && isRecalled !== true
  )
  return new Map(whole.map((document) => [document.id, document]))
}

function notRemembered(memory: string, error: unknown): Problem {
  return {
    file: memory,
    message: `the agent cannot save the last good content of the manifests for a restart: ${reason(error)}`,
    fix: 'check the disk and the state directory; correct broken manifests before the next restart',
    level: 'warning',
    ofSource: true
  }
}

interface KnownFile {
  readonly file: string
  /** '' for a file that is gone while its objects still count. */
  readonly stamp: string
  readonly state: FileState
}
