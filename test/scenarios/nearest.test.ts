// `nearest` by round trips through tunnels with a real delay: the choice follows the nearest cluster, a short change does not
// move it, and connections that stand go on after a move, within drain-seconds.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { ServicesAnswer } from '../../src/api/answers.ts'
import type { BalancedRow } from '../../src/api/balanced-row.ts'
import { serviceIp } from '../demo/checks.ts'
import { wanAddress, type Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { holdConnections } from '../lab/support/held-connections.ts'
import { SlowPaths } from '../lab/support/slow-path.ts'
import { look, raise, unite } from './harness.ts'

// Longer than the test: connections to endpoints that are no longer chosen end after it.
const DRAIN_SECONDS = 600
// A probe a second, 15 of which count, and 5 s until a change is lasting.
const MOVE_MS = 90_000
const SHORT_MS = 2500
const WINDOW_MS = 16_000
const WATCH_MS = 20_000
const STANDING_MS = 5000
const HELD = 20
// The held connections, and the port on which a pod tells its name.
const PORTS = [
  { name: 'held', port: 8600 },
  { name: 'http', port: 8080 }
]

describe('nearest, with a delay on the way', function () {
  const { world, site } = raise('nearest', ['west', 'east', 'edge'], {
    flags: ['--tcp-path-rate', '0', '--drain-seconds', String(DRAIN_SECONDS)]
  })
  let paths: SlowPaths | undefined

  before(async () => {
    const ends = (['edge', 'east', 'west'] as const).map((name) => ({
      gateway: site(name).gateway,
      address: wanAddress(name)
    }))
    const [edge, ...others] = ends
    assert.ok(edge)
    paths = await SlowPaths.between(await world().lab.namespace('wan'), edge, others)
    for (const name of ['west', 'east'] as const) writeHeld(name)
    await unite(site('west'), site('east'), site('edge'))
  })

  after(() => paths?.end())

  it('the cluster with the least round trip is chosen', async () => {
    paths?.set(5, 40)
    await untilChosen('east')
  })

  it('a short change does not move the choice', async () => {
    // From now on, so many probes count that those of a short change are the minority.
    await pause(WINDOW_MS)
    paths?.set(60, 1)
    await pause(SHORT_MS)
    paths?.set(5, 40)
    const endMs = performance.now() + WATCH_MS
    while (performance.now() < endMs) {
      assert.equal(chosenOf(await row()), 'east')
      await pause(250)
    }
  })

  it('a lasting change moves it, and the connections that stand go on', async () => {
    await untilChosen('east')
    const address = (await row()).address
    const pod = site('east').pod(0)
    const held = await holdConnections(site('edge').pod(0).namespace, pod, {
      address,
      port: 8600,
      count: HELD
    })
    paths?.set(60, 5)
    await untilChosen('west')
    await pause(STANDING_MS)
    const { opened, broken, errors } = await held.end()
    assert.deepEqual({ opened, broken, errors }, { opened: HELD, broken: 0, errors: [] })
    assert.equal(chosenOf(await row()), 'west')
  })

  /** The Service shop/held of a cluster: its first pod, by the policy `nearest`. */
  function writeHeld(name: Cluster): void {
    const service = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'held', namespace: 'shop', annotations: { 'rhizome.io/balance': 'nearest' } },
      spec: { clusterIP: serviceIp[name].replace(/10$/, '200'), ports: PORTS }
    }
    const slice = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'held-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'held' } },
      addressType: 'IPv4',
      ports: PORTS,
      endpoints: [{ addresses: [site(name).pod(0).address] }]
    }
    const text = [service, slice].map((each) => JSON.stringify(each)).join('\n---\n')
    writeFileSync(join(site(name).manifests, 'held.yaml'), `${text}\n`)
  }

  async function row(): Promise<BalancedRow> {
    const { balanced = [] } = await look<ServicesAnswer>(site('edge'), 'services')
    const found = balanced.find(({ name }) => name === 'held')
    assert.ok(found)
    return found
  }

  function chosenOf({ clusters }: BalancedRow): string {
    return clusters
      .filter(({ percent }) => percent > 0)
      .map(({ cluster }) => cluster)
      .join()
  }

  async function untilChosen(name: Cluster): Promise<void> {
    await eventually(async () => {
      const { clusters } = await row()
      const shown = clusters.find(({ cluster }) => cluster === name)
      assert.match(shown?.reason ?? '', /^it is the nearest \(round trip [0-9.]+ ms\)/)
      // The load balancer follows with its next pass.
      const { answers } = await site('edge')
        .pod(0)
        .tcp((await row()).address, 8080, { count: 10 })
      assert.deepEqual(new Set(answers.map(({ pod }) => pod.slice(0, pod.indexOf('-')))), new Set([name]))
      return true
    }, MOVE_MS)
  }
})
