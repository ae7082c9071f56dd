// Client-go's informers in a process of their own (test/lab/support/informers/main.go).
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

import { labProgram } from './coredns.ts'

export interface InformerEvent {
  readonly event: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly kind: Kind
  readonly key: string
}

export type Kind = 'Namespace' | 'Service' | 'EndpointSlice'

export interface Cache {
  /** The resource version from which it would watch again. */
  readonly version: string
  /** By "<namespace>/<name>". */
  readonly objects: Readonly<Record<string, CachedObject>>
}

export type Caches = Readonly<Record<Kind, Cache>>

/** As far as the tests look. */
export interface CachedObject {
  readonly metadata: { readonly resourceVersion: string; readonly labels?: Readonly<Record<string, string>> }
  readonly spec?: { readonly clusterIPs?: readonly string[]; readonly externalName?: string }
  readonly endpoints?: readonly { readonly addresses: readonly string[] }[]
}

export interface Informers {
  readonly events: readonly InformerEvent[]
  readonly synced: boolean
  caches(): Promise<Caches>
  /** What client-go has logged; the tail of it. */
  log(): string
  stop(): Promise<void>
}

type Line =
  | InformerEvent
  | { readonly event?: undefined; readonly synced: true }
  | { readonly event?: undefined; readonly synced?: undefined; readonly held: Caches }

/** `watchList`: whether lists are streamed (sendInitialEvents), which is the default of client-go since 1.35. */
export async function startInformers(url: string, { watchList = true } = {}): Promise<Informers> {
  const child = spawn(await labProgram('informers'), [url], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, KUBE_FEATURE_WatchListClient: String(watchList) }
  })
  const exited = once(child, 'exit')
  const events: InformerEvent[] = []
  const asked: ((caches: Caches) => void)[] = []
  let synced = false
  let logged = ''
  child.stderr.on('data', (chunk) => (logged = (logged + String(chunk)).slice(-20_000)))
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = JSON.parse(text) as Line
    if (line.event !== undefined) events.push(line)
    else if (line.synced === true) synced = true
    else asked.shift()?.(line.held)
  })
  return {
    events,
    get synced() {
      return synced
    },
    caches: () =>
      new Promise((resolve) => {
        asked.push(resolve)
        child.stdin.write('\n')
      }),
    log: () => logged,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
    }
  }
}
