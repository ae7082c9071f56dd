// Follows the ServiceExports of a cluster whose Multi-Cluster Services API may be missing: it asks which version of the
// API group is served, and follows that one (reflector.ts). kube-source.ts joins what it reports with the Services.
// Invariants
//   1. `onKnown` is called once it is certain which ServiceExports there are: all were listed, there is no such API, or
//      this account may not read it. A snapshot before that would withdraw the exports of an earlier run.
//   2. An API that disappears takes its ServiceExports with it; one that cannot be asked does not (fail static).
import { MCS_GROUP, MCS_VERSIONS } from '../../core/catalog/read-export.ts'
import type { ObjectName } from '../../core/catalog/live-catalog.ts'
import { getObject } from '../../core/kube/kube-api.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { Loop } from '../timing/loop.ts'
import type { KubeClient } from './client.ts'
import { asKubeError, type KubeError } from './errors.ts'
import { createReflector, type Reflector, type ReflectorTiming } from './reflector.ts'

interface ExportWatchOptions {
  readonly client: KubeClient
  readonly onPut: (name: ObjectName, object: Fields) => void
  readonly onDelete: (name: ObjectName) => void
  /** Called once at least (invariant 1). */
  readonly onKnown: () => void
  /** Called with the error of the watch, and with undefined when it is a success. A missing API is no error. */
  readonly onTrouble: (trouble: KubeError | undefined) => void
  readonly timing?: Partial<ReflectorTiming>
  /** Milliseconds between two questions which versions are served. Tests replace it. Default: LOOK_MS. */
  readonly lookMs?: number
}

interface ExportWatch {
  start(): void
  /** Ends the wait after an error, as Reflector.wake does. */
  wake(): void
  stop(): Promise<void>
  /** "v1beta1": the version of the API that is followed; undefined: the cluster has none of those that are known. */
  readonly version: string | undefined
}

// Milliseconds between two questions which versions are served. An administrator who installs the API waits as long.
const LOOK_MS = 5000
const CALL_MS = 10_000

/** Returns a watch, which sends no request before `start`. */
export function createExportWatch(options: ExportWatchOptions): ExportWatch {
  const { client } = options
  /** What was reported and not deleted, for invariant 2. */
  const known = new Map<string, ObjectName>()
  let version: string | undefined
  let reflector: Reflector | undefined
  /** Whether the last look has failed. Its trouble is over with the next one that does not. */
  let hasFailed = false

  async function look(signal: AbortSignal): Promise<void> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)])
    const served = await servedVersion(client, deadline)
    if (hasFailed) options.onTrouble(undefined)
    hasFailed = false
    if (served === version && (served === undefined || reflector !== undefined)) {
      if (served === undefined) options.onKnown()
      return
    }
    await reflector?.stop()
    reflector = undefined
    version = served
    if (served === undefined) {
      for (const name of known.values()) options.onDelete(name)
      known.clear()
      options.onTrouble(undefined)
      options.onKnown()
      return
    }
    reflector = follow(served)
    reflector.start()
  }

  function follow(served: string): Reflector {
    const isFirst = known.size === 0
    const listed = new Set<string>()
    return createReflector({
      client,
      path: `/apis/${MCS_GROUP}/${served}/serviceexports`,
      ...(options.timing && { timing: options.timing }),
      onPut: (name, object) => {
        known.set(idOf(name), name)
        listed.add(idOf(name))
        options.onPut(name, object)
      },
      onDelete: (name) => {
        known.delete(idOf(name))
        options.onDelete(name)
      },
      onListed: () => {
        // The reflector of another version does not know what the one before has reported.
        if (!isFirst) for (const [id, name] of known) if (!listed.has(id)) forget(id, name)
        options.onKnown()
      },
      onTrouble: (trouble) => {
        const isMissing = trouble?.code === 'NOT_IN_CLUSTER'
        if (isMissing || trouble?.code === 'FORBIDDEN') options.onKnown()
        options.onTrouble(isMissing ? undefined : trouble)
      }
    })
  }

  function forget(id: string, name: ObjectName): void {
    known.delete(id)
    options.onDelete(name)
  }

  const loop = new Loop({
    act: look,
    intervalMs: options.lookMs ?? LOOK_MS,
    onError: (error) => {
      hasFailed = true
      options.onTrouble(asKubeError(error, `GET /apis/${MCS_GROUP}`))
    }
  })
  return {
    start: () => loop.start(),
    wake: () => reflector?.wake(),
    stop: async () => {
      await loop.stop()
      await reflector?.stop()
    },
    get version() {
      return version
    }
  }
}

/** The best version of the group that the server has and this program knows. */
async function servedVersion(client: KubeClient, signal: AbortSignal): Promise<string | undefined> {
  const group = await getObject(client, `/apis/${MCS_GROUP}`, signal)
  const versions = Array.isArray(group?.['versions']) ? group['versions'].filter(isFields) : []
  return MCS_VERSIONS.find((known) => versions.some(({ version }) => version === known))
}

function idOf({ namespace, name }: ObjectName): string {
  return `${namespace}/${name}`
}
