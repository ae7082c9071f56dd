// Where there is no root, TUN or Linux: three agents on loopback, control plane and DNS for real, and the plan of each host.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PlanAnswer } from '../../src/api/answers.ts'
import { run, serviceIp, type Check, type CheckResult } from './checks.ts'
import { LoopbackAgent as Agent } from './loopback-agent.ts'
import { CLUSTERS, podCidr, serviceCidr, type Cluster } from './site.ts'

// Of each plan; the whole of it is what `meshctl plan` prints.
const PLAN_LINES_MAX = 12

type Say = (...lines: readonly string[]) => void

export async function controlOnly(say: Say): Promise<readonly CheckResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'rhizome-'))
  const agents = new Map<Cluster, Agent>()
  const end = (): void => {
    for (const agent of agents.values()) agent.kill()
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', end)
  try {
    for (const cluster of CLUSTERS) agents.set(cluster, await Agent.create(folder, cluster))
    return await tell(say, agents)
  } catch (error) {
    for (const { cluster, tail } of agents.values()) say(`--- end of the log of ${cluster}`, tail)
    throw error
  } finally {
    await Promise.all([...agents.values()].map((agent) => agent.stop()))
    process.off('exit', end)
    end()
  }
}

async function tell(say: Say, agents: ReadonlyMap<Cluster, Agent>): Promise<readonly CheckResult[]> {
  const results: CheckResult[] = []
  const check = async (name: string, act: Check): Promise<void> => {
    const result = await run(name, act)
    results.push(result)
    say(`  ${result.ok ? 'ok  ' : 'FAIL'} ${name.padEnd(62)} ${result.detail}`)
  }
  const [west, east, edge] = CLUSTERS.map((cluster) => agents.get(cluster)) as [Agent, Agent, Agent]

  say('', '» Starting meshd three times on this machine; none knows of any other')
  await Promise.all([west, east, edge].map((agent) => agent.start()))
  say('', '» west makes the mesh, and invites; edge is told of east alone')
  await west.done(
    'init',
    '--cluster',
    'west',
    '--pod-cidr',
    podCidr('west'),
    '--service-cidr',
    serviceCidr('west')
  )
  await check('east: from token to first answered name', () => joins(west, east))
  await check('edge: from token to first answered name', () => joins(west, edge, '--bootstrap', 'east'))

  say('', '» Names')
  for (const from of agents.values()) {
    for (const to of CLUSTERS) {
      await check(`${from.cluster}: web.shop.svc.cluster.${to}`, async () => {
        const addresses = await from.untilNamed(`web.shop.svc.cluster.${to}`, [serviceIp[to]])
        return addresses.join(', ')
      })
    }
    await check(`${from.cluster}: cluster.all answers with every cluster's service`, async () => {
      const all = CLUSTERS.map((cluster) => serviceIp[cluster])
      return (await from.untilNamed('web.shop.svc.cluster.all', all)).join(', ')
    })
    await check(`${from.cluster}: a name that does not exist is NXDOMAIN`, async () => {
      const { error } = await from.resolve('nobody.shop.svc.cluster.west')
      if (error !== 'ENOTFOUND') throw new Error(`${error ?? 'an answer'} instead of NXDOMAIN`)
      return 'nobody.shop.svc.cluster.west: NXDOMAIN'
    })
  }
  await check('a new service in west has a name in edge', async () => {
    writeFileSync(join(west.manifests, 'new.yaml'), NEW_SERVICE)
    const started = performance.now()
    await edge.untilNamed('new.shop.svc.cluster.west', ['10.101.0.99'])
    return `named ${(performance.now() - started).toFixed(0)} ms after its file was there`
  })

  say('', '» west is stopped')
  await west.stop()
  await check('without west, edge still answers for east', async () =>
    (await edge.untilNamed('web.shop.svc.cluster.east', [serviceIp.east])).join(', ')
  )

  for (const agent of [east, edge]) {
    say('', `» What ${agent.cluster} would do to its host`)
    await check(`${agent.cluster}: has a plan for its host`, async () => {
      const { steps } = JSON.parse((await agent.done('plan', '--json')).stdout) as PlanAnswer
      const lines = steps.flatMap(({ commands }) => commands).flatMap((text) => text.split('\n'))
      if (lines.length === 0) throw new Error('nothing')
      say(
        ...lines.slice(0, PLAN_LINES_MAX).map((line) => `    ${line}`),
        `    … ${lines.length} lines in all`
      )
      return `${steps.length} steps`
    })
  }
  return results
}

/** `meshctl join`, then the first name of another cluster that is answered. */
async function joins(west: Agent, newcomer: Agent, ...flags: string[]): Promise<string> {
  const { cluster } = newcomer
  const prefixes = ['--pod-cidr', podCidr(cluster), '--service-cidr', serviceCidr(cluster)]
  const token = (await west.done('invite', cluster, ...prefixes, ...flags)).stdout.trim()
  const started = performance.now()
  await newcomer.done('join', token)
  await newcomer.untilNamed('web.shop.svc.cluster.west', [serviceIp.west])
  return `${(performance.now() - started).toFixed(0)} ms`
}

const NEW_SERVICE = `apiVersion: v1
kind: Service
metadata: { name: new, namespace: shop }
spec: { clusterIP: 10.101.0.99, ports: [{ port: 80 }] }
`
