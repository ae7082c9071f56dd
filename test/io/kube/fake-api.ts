// A Kubernetes API in a few lines, for what the real one does only on bad days: it holds objects, lists them in pages, streams
// events, and answers the next request of a kind with whatever the test scripted.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKubeClient, type KubeClient } from '../../../src/io/kube/client.ts'

export interface FakeObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [key: string]: unknown }
  readonly [key: string]: unknown
}

export type Fault = (request: IncomingMessage, response: ServerResponse) => void

export const SERVICES = '/api/v1/services'
export const SLICES = '/apis/discovery.k8s.io/v1/endpointslices'
export const NAMESPACES = '/api/v1/namespaces'
export const NODES = '/api/v1/nodes'

export class FakeApi {
  version = 100
  readonly client: KubeClient
  readonly port: number
  /** A file. */
  readonly kubeconfig: string
  /** Every request, as "list /api/v1/services?limit=500" or "watch …". */
  readonly requests: string[] = []
  readonly #collections = new Map<string, Map<string, FakeObject>>()
  readonly #watches = new Map<ServerResponse, string>()
  readonly #faults: { kind: string; path: string; fault: Fault; times: number }[] = []
  readonly #answers = new Map<string, object>()
  readonly #close: () => Promise<void>

  private constructor(of: {
    client: KubeClient
    port: number
    kubeconfig: string
    close: () => Promise<void>
  }) {
    this.client = of.client
    this.port = of.port
    this.kubeconfig = of.kubeconfig
    this.#close = of.close
  }

  static async start(): Promise<FakeApi> {
    let self: FakeApi | undefined
    const server = createServer((request, response) => self?.handle(request, response))
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const address = server.address()
    if (address === null || typeof address !== 'object') throw new Error('no port')
    const folder = await mkdtemp(join(tmpdir(), 'rhizome-fake-kube-'))
    const kubeconfig = join(folder, 'kubeconfig')
    await writeFile(
      kubeconfig,
      JSON.stringify({
        'current-context': 'fake',
        clusters: [
          {
            name: 'fake',
            cluster: { server: `http://127.0.0.1:${address.port}` }
          }
        ],
        users: [{ name: 'fake', user: { token: 'secret-token' } }],
        contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'fake' } }]
      })
    )
    const client = await openKubeClient({ kubeconfig })
    self = new FakeApi({
      client,
      port: address.port,
      kubeconfig,
      close: async () => {
        client.close()
        server.closeAllConnections()
        await new Promise((resolve) => {
          server.close(resolve)
        })
        await rm(folder, { recursive: true })
      }
    })
    return self
  }

  /** Creates or changes an object, and tells the watches. */
  put(path: string, object: FakeObject): void {
    const all = this.#collection(path)
    const id = idOf(object)
    const type = all.has(id) ? 'MODIFIED' : 'ADDED'
    const stored = this.#stamp(object)
    all.set(id, stored)
    this.send(path, { type, object: stored })
  }

  delete(path: string, id: string): void {
    const all = this.#collection(path)
    const object = all.get(id)
    if (object === undefined) throw new Error(`no ${id}`)
    all.delete(id)
    this.send(path, { type: 'DELETED', object: this.#stamp(object) })
  }

  /** Changes what the lists say, without an event: what happens while a watch is lost. */
  forget(path: string, id: string): void {
    this.version += 1
    this.#collection(path).delete(id)
  }

  /** Any line to the open watches of a collection. */
  send(path: string, event: unknown): void {
    this.sendRaw(path, `${JSON.stringify(event)}\n`)
  }

  sendRaw(path: string, text: string): void {
    for (const [response, of] of this.#watches) if (of === path) response.write(text)
  }

  /** Ends the watches: in order, or as a crash would. */
  endWatches(how: 'end' | 'destroy'): void {
    for (const response of this.#watches.keys()) response[how]()
    this.#watches.clear()
  }

  watches(path: string): number {
    return [...this.#watches.values()].filter((of) => of === path).length
  }

  /** The next requests of this kind are answered by `fault`. */
  fail(kind: 'list' | 'page' | 'watch' | 'any', path: string, fault: Fault, times = 1): void {
    this.#faults.push({ kind, path, fault, times })
  }

  /** One object, or a list of its own form, at a path. */
  answer(path: string, body: object): void {
    this.#answers.set(path, body)
  }

  heal(): void {
    this.#faults.length = 0
  }

  count(prefix: string): number {
    return this.requests.filter((request) => request.startsWith(prefix)).length
  }

  async close(): Promise<void> {
    this.endWatches('destroy')
    await this.#close()
  }

  handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://fake')
    const kind = url.searchParams.has('watch') ? 'watch' : 'list'
    this.requests.push(`${kind} ${request.url}`)
    // The second page of a list and those after it.
    const kinds = new Set(['any', kind, ...(url.searchParams.has('continue') ? ['page'] : [])])
    const fault = this.#faults.find(
      (each) => kinds.has(each.kind) && (each.path === url.pathname || each.path === '*')
    )
    if (fault !== undefined) {
      fault.times -= 1
      if (fault.times === 0) this.#faults.splice(this.#faults.indexOf(fault), 1)
      fault.fault(request, response)
    } else if (kind === 'watch') {
      response.writeHead(200).flushHeaders()
      this.#watches.set(response, url.pathname)
      response.on('close', () => this.#watches.delete(response))
    } else if (this.#answers.has(url.pathname)) response.end(JSON.stringify(this.#answers.get(url.pathname)))
    else if (/configmaps|projectcalico/.test(url.pathname)) refuse(404, 'not found')(request, response)
    else this.#list(url, response)
  }

  #list(url: URL, response: ServerResponse): void {
    const all = [...this.#collection(url.pathname).values()]
    const from = Number(url.searchParams.get('continue') ?? 0)
    const to = from + Number(url.searchParams.get('limit') ?? all.length)
    response.end(
      JSON.stringify({
        metadata: {
          resourceVersion: String(this.version),
          ...(to < all.length ? { continue: String(to) } : {})
        },
        items: all.slice(from, to)
      })
    )
  }

  #collection(path: string): Map<string, FakeObject> {
    const known = this.#collections.get(path)
    if (known !== undefined) return known
    const fresh = new Map<string, FakeObject>()
    this.#collections.set(path, fresh)
    return fresh
  }

  #stamp(object: FakeObject): FakeObject {
    this.version += 1
    return { ...object, metadata: { ...object.metadata, resourceVersion: String(this.version) } }
  }
}

/** A Status object, as the API answers what it refuses. */
export function refuse(code: number, message: string, headers: Record<string, string> = {}): Fault {
  return (_request, response) => {
    response
      .writeHead(code, headers)
      .end(JSON.stringify({ kind: 'Status', status: 'Failure', code, message }))
  }
}

export function service(
  name: string,
  clusterIp: string,
  more: { metadata?: object; spec?: object } = {}
): FakeObject {
  return {
    metadata: { name, namespace: 'shop', ...more.metadata },
    spec: {
      clusterIP: clusterIp,
      clusterIPs: [clusterIp],
      ports: [{ port: 80, protocol: 'TCP' }],
      ...more.spec
    }
  }
}

export function slice(name: string, of: string, addresses: readonly string[]): FakeObject {
  return {
    metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } }))
  }
}

function idOf({ metadata }: FakeObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`
}
