// What an agent's memory is while endpoints come and go without a pause: three sites whose manifests change, agents started as they
// are shipped. The figure is the resident set at its most.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CLUSTERS, World, type Site } from '../demo/site.ts'
import { Lab } from '../lab/support/netns.ts'
import { build } from '../built.ts'
import { unite } from '../scenarios/harness.ts'
import { row, type Row, type Step } from './row.ts'

interface Churn {
  readonly title: string
  /** Services of each site. */
  readonly services: number
  /** Sites whose services change. */
  readonly changing: number
  /** Changes a second of all of them together. */
  readonly perSecond: number
}

const CHURNS: readonly Churn[] = [
  { title: '600 services of three sites, 12 changes/s', services: 200, changing: 3, perSecond: 12 },
  { title: '200 services of one site, 220 changes/s', services: 200, changing: 1, perSecond: 220 }
]
const SECONDS = 120
const AIM_MB = 150

export const steps: readonly Step[] = CHURNS.map((churn) => ({
  title: `memory: ${churn.title}`,
  measure: () => measure(churn)
}))

async function measure(churn: Churn): Promise<readonly Row[]> {
  const reason = Lab.requirements()
  if (reason !== undefined) {
    process.stderr.write(`memory: left out: ${reason}\n`)
    return []
  }
  build()
  const lab = await Lab.create('churn')
  const world = await World.raise(lab)
  try {
    const sites = CLUSTERS.map((cluster) => world.site(cluster))
    for (const site of sites) for (let index = 0; index < churn.services; index++) write(site, index, 3)
    await Promise.all(sites.map((site) => site.start()))
    const [first, ...others] = sites
    if (first === undefined) return []
    await unite(first, ...others)
    const before = Math.max(...sites.map(residentMb))
    const most = await change(churn, sites)
    return [
      row({
        name: `memory of an agent at its most: ${churn.title}`,
        value: most,
        unit: 'MB',
        baseline: { name: 'after the join', value: before },
        aim: { text: `≤ ${AIM_MB} MB`, holds: (value) => value <= AIM_MB }
      })
    ]
  } finally {
    await world.close()
  }
}

/** Answers the most that any of the agents had. */
async function change({ services, changing, perSecond }: Churn, sites: readonly Site[]): Promise<number> {
  const began = performance.now()
  let most = 0
  let made = 0
  for (let second = 1; second <= SECONDS; second++) {
    for (; made < second * perSecond; made++) {
      const site = sites[made % changing]
      if (site !== undefined) write(site, Math.floor(made / changing) % services, 1 + (made % 4))
      await pause(Math.max(1, began + ((made + 1) * 1000) / perSecond - performance.now()))
    }
    most = Math.max(most, ...sites.map(residentMb))
    if (second % 10 === 0)
      process.stderr.write(
        `bench:   ${second} s: ${sites.map((site) => residentMb(site).toFixed(0)).join(' ')} MB\n`
      )
  }
  return most
}

/** The namespace's tool becomes the agent, so its pid is that of the agent. */
function residentMb({ pid }: Site): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1000
}

const NUMBER = { west: 1, east: 2, edge: 3 } as const

/** A service with so many endpoints, in a file of its own. */
function write({ cluster, manifests }: Site, index: number, endpoints: number): void {
  const name = `churn-${index}`
  const number = NUMBER[cluster]
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-1`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080 }],
    endpoints: Array.from({ length: endpoints }, (_, pod) => ({
      addresses: [`10.${number}.${index}.${pod + 1}`]
    }))
  }
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop' },
    spec: { clusterIP: `10.10${number}.7.${index + 1}`, ports: [{ port: 80 }] }
  }
  writeFileSync(
    join(manifests, `${name}.yaml`),
    `${JSON.stringify(service)}\n---\n${JSON.stringify(slice)}\n`
  )
}
