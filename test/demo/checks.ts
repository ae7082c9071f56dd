// What the demo claims, one check a claim: each does what a pod or an operator would do, and says what it saw.
import { readFileSync, renameSync, writeFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments, type Document } from 'yaml'
import type { PodReply } from './pod.ts'
import { CLUSTERS, podAddress, type Cluster, type Site, type World } from './site.ts'

export interface CheckResult {
  readonly name: string
  readonly ok: boolean
  readonly ms: number
  readonly detail: string
}

export type Check = () => Promise<string>

/** Runs a check; what it returns is the detail, what it throws is the failure. */
export async function run(name: string, check: Check): Promise<CheckResult> {
  const started = performance.now()
  try {
    const detail = await check()
    return { name, ok: true, ms: elapsed(started), detail }
  } catch (error) {
    return {
      name,
      ok: false,
      ms: elapsed(started),
      detail: error instanceof Error ? error.message : String(error)
    }
  }
}

export const serviceIp = { west: '10.101.0.10', east: '10.102.0.10', edge: '10.103.0.10' } as const

/** Every pair of clusters, TCP and UDP, by name and by service IP; spread over the pods; the client's own address. */
export function reachChecks(world: World, clusters: readonly Cluster[] = CLUSTERS): [string, Check][] {
  const pairs = clusters.flatMap((from) =>
    clusters.filter((to) => to !== from).map((to) => [from, to] as const)
  )
  return pairs.flatMap(([from, to]): [string, Check][] => {
    const pod = world.site(from).pod(0)
    const name = `web.shop.svc.cluster.${to}`
    const telemetry = `telemetry.platform.svc.cluster.${to}`
    return [
      [
        `${from} → ${to}: TCP by name`,
        async () => {
          const reply = answered(await pod.tcp(name, 80, { count: 1 }))
          return `${name}:80 answered by ${podsOf(reply)}`
        }
      ],
      [
        `${from} → ${to}: TCP by service IP, spread over its ready pods`,
        async () => {
          const reply = answered(await pod.tcp(serviceIp[to], 80, { count: 30 }))
          const counts = count(reply)
          const ready = readyPods(world.site(to))
          const stray = [...counts.keys()].filter((target) => !ready.includes(target))
          if (stray.length > 0) throw new Error(`${stray.join(', ')} answered without being ready`)
          const missing = ready.filter((target) => !counts.has(target))
          if (missing.length > 0) throw new Error(`${shares(counts)}; never ${missing.join(', ')}`)
          return shares(counts)
        }
      ],
      [
        `${from} → ${to}: the pod sees the client's own address`,
        async () => {
          const reply = answered(await pod.tcp(serviceIp[to], 80))
          const seen = reply.answers[0]?.client.replace('::ffff:', '')
          if (seen !== pod.address) throw new Error(`${seen} instead of ${pod.address}`)
          return `${seen} seen by ${podsOf(reply)}`
        }
      ],
      [
        `${from} → ${to}: UDP by name and by service IP`,
        async () => {
          const byName = answered(await pod.udp(telemetry, 8125, { count: 2 }))
          const { addresses } = answered(await pod.resolve(telemetry))
          const byIp = answered(await pod.udp(addresses[0] ?? '', 8125, { count: 2 }))
          const seen = byIp.answers[0]?.client
          if (seen !== pod.address) throw new Error(`the pod saw ${seen} instead of ${pod.address}`)
          return `${telemetry}:8125 answered by ${podsOf(byName)}`
        }
      ],
      [
        `${from} → ${to}: a pod by its own IP`,
        async () => {
          const reply = answered(await pod.tcp(podAddress(to, 1), 8080))
          return `${podAddress(to, 1)}:8080 answered by ${podsOf(reply)}`
        }
      ]
    ]
  })
}

export function nameChecks(world: World): [string, Check][] {
  return CLUSTERS.flatMap((from): [string, Check][] => {
    const pod = world.site(from).pod(1)
    return [
      [
        `${from}: cluster.all answers with every cluster's service`,
        async () => {
          const { addresses } = answered(await pod.resolve('web.shop.svc.cluster.all'))
          const missing = CLUSTERS.filter((cluster) => !addresses.includes(serviceIp[cluster]))
          if (missing.length > 0) throw new Error(`${addresses.join(', ')}: nothing of ${missing.join(', ')}`)
          return addresses.toSorted().join(', ')
        }
      ],
      [
        `${from}: a name that does not exist is NXDOMAIN`,
        async () => {
          const reply = await pod.resolve('nobody.shop.svc.cluster.west')
          if (reply.error !== 'ENOTFOUND')
            throw new Error(`${reply.error ?? reply.addresses.join(', ')} instead of NXDOMAIN`)
          return 'nobody.shop.svc.cluster.west: NXDOMAIN'
        }
      ],
      [
        `${from}: its own services answer under its own cluster name`,
        async () => {
          // As often as it takes for each pod to have its turn, the asking one too.
          const reply = answered(await pod.tcp(`web.shop.svc.cluster.${from}`, 80, { count: 15 }))
          return `answered by ${podsOf(reply)}`
        }
      ]
    ]
  })
}

export interface Change {
  readonly detail: string
  /** From the file on disk to the traffic in another cluster. */
  readonly ms: number
}

/** Takes one endpoint out of web.shop of `at` and sees, in `from`, when its traffic ends. */
export async function removedEndpoint(world: World, at: Cluster, from: Cluster): Promise<Change> {
  const gone = world.site(at).pod(2)
  const pod = world.site(from).pod(0)
  const changedMs = edit(world.site(at), (addresses) =>
    addresses.filter((address) => address !== gone.address)
  )
  let lastSeenMs = changedMs
  let requests = 0
  // 120 requests in a row without the pod: with one of three picked at random, chance would do that once in 10^21.
  for (let without = 0; without < 120; without++) {
    const reply = answered(await pod.tcp(serviceIp[at], 80))
    requests++
    if (reply.answers[0]?.pod !== gone.name) continue
    lastSeenMs = performance.now()
    without = 0
    if (lastSeenMs - changedMs > 5000) throw new Error(`${gone.name} still gets traffic after 5 s`)
  }
  const ms = lastSeenMs - changedMs
  return {
    ms,
    detail: `${gone.name} got its last request ${ms.toFixed(0)} ms after the change (${requests} requests seen)`
  }
}

/** Puts it back and sees when it gets traffic again. */
export async function addedEndpoint(world: World, at: Cluster, from: Cluster): Promise<Change> {
  const back = world.site(at).pod(2)
  const pod = world.site(from).pod(0)
  const changedMs = edit(world.site(at), (addresses) => [
    ...addresses.filter((a) => a !== back.address),
    back.address
  ])
  for (;;) {
    const reply = answered(await pod.tcp(serviceIp[at], 80))
    const ms = performance.now() - changedMs
    if (reply.answers[0]?.pod === back.name) {
      return { ms, detail: `${back.name} got its first request ${ms.toFixed(0)} ms after the change` }
    }
    if (ms > 5000) throw new Error(`${back.name} got no request within 5 s`)
  }
}

/** Asks until it is answered. Errors: the last failure, after the deadline. */
export async function untilAnswered(ask: () => Promise<PodReply>, deadlineMs: number): Promise<PodReply> {
  const end = performance.now() + deadlineMs
  for (;;) {
    const reply = await ask()
    if (reply.error === undefined) return reply
    if (performance.now() > end) throw new Error(`${reply.error}, for ${deadlineMs} ms`)
  }
}

/** Rewrites the addresses of web's EndpointSlice as an editor would: the whole file, by rename. Returns when it was there. */
function edit(site: Site, change: (addresses: string[]) => string[]): number {
  const { path, documents, slice } = sliceOfWeb(site)
  const addresses = change(readyAddresses(slice))
  slice.set(
    'endpoints',
    slice.createNode(addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })))
  )
  writeFileSync(`${path}.new`, documents.map(String).join('---\n'))
  renameSync(`${path}.new`, path)
  return performance.now()
}

/** The pods that web's manifest calls ready. */
function readyPods(site: Site): string[] {
  const ready = readyAddresses(sliceOfWeb(site).slice)
  return site.pods.filter((pod) => ready.includes(pod.address)).map((pod) => pod.name)
}

function sliceOfWeb(site: Site): { path: string; documents: Document[]; slice: Document } {
  const files = readdirSync(site.manifests, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.yaml')
  )
  for (const file of files) {
    const path = join(site.manifests, file)
    const documents = [...parseAllDocuments(readFileSync(path, 'utf8'))].filter(
      (document) => 'get' in document
    )
    const slice = documents.find(isSliceOfWeb)
    if (slice !== undefined) return { path, documents, slice }
  }
  throw new Error(`no EndpointSlice of web in ${site.manifests}`)
}

function readyAddresses(slice: Document): string[] {
  const { endpoints } = slice.toJS() as {
    endpoints: { addresses: string[]; conditions?: { ready?: boolean } }[]
  }
  return endpoints
    .filter(({ conditions }) => conditions?.ready !== false)
    .flatMap(({ addresses }) => addresses)
}

function isSliceOfWeb(document: Document): boolean {
  return (
    document.get('kind') === 'EndpointSlice' &&
    document.getIn(['metadata', 'labels', 'kubernetes.io/service-name']) === 'web' &&
    document.getIn(['metadata', 'namespace']) === 'shop'
  )
}

function answered(reply: PodReply): PodReply {
  if (reply.error !== undefined) throw new Error(reply.error)
  return reply
}

function podsOf(reply: PodReply): string {
  return [...new Set(reply.answers.map((answer) => answer.pod))].join(', ')
}

function count(reply: PodReply): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { pod } of reply.answers) counts.set(pod, (counts.get(pod) ?? 0) + 1)
  return new Map([...counts].toSorted(([a], [b]) => a.localeCompare(b)))
}

function shares(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([pod, times]) => `${pod} ${times}`).join(', ')
}

function elapsed(started: number): number {
  return Math.round((performance.now() - started) * 10) / 10
}
