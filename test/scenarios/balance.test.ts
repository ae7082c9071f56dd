// A policy for a service over three clusters, on real hosts: which cluster answers the pods of another, how often, and what
// happens when the cluster that comes first vanishes.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServicesAnswer } from '../../src/api/answers.ts'
import type { BalancedRow } from '../../src/api/balanced-row.ts'
import type { Cluster, Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { done, look, raise, unite } from './harness.ts'

const NAME = 'web.shop.svc.cluster.all'
const COUNT = 200
const FAILOVER_MS = 60_000

describe('a policy for a service', function () {
  const { site } = raise('balance', ['west', 'east', 'edge'])
  const edge = (): Site => site('edge')

  before(async () => {
    await unite(site('west'), site('east'), edge())
  })

  it('without one, the name in cluster.all has the addresses of all clusters', async () => {
    await eventually(async () => {
      assert.equal((await edge().pod(0).resolve(NAME)).addresses.length, 3)
      return true
    }, FAILOVER_MS)
  })

  it('weights=west:75,east:25: one address, and three answers of four are from west', async () => {
    await write('weights=west:75,east:25')
    const row = await applied('weights=west:75,east:25')
    await eventually(async () => {
      assert.deepEqual((await edge().pod(0).resolve(NAME)).addresses, [row.address])
      const counts = await countAnswers()
      assert.equal(counts.edge ?? 0, 0, JSON.stringify(counts))
      // 200 draws with p = 0.75: eight standard deviations on each side.
      assert.ok(Math.abs((counts.west ?? 0) - 150) < 49, JSON.stringify(counts))
      assert.equal((counts.west ?? 0) + (counts.east ?? 0), COUNT)
      return true
    }, FAILOVER_MS)
  })

  it('only=east: the own cluster and west answer nothing', async () => {
    await write('only=east')
    await applied('only=east')
    await answersFrom('east')
  })

  it('local-first: the own cluster answers, by the merged name', async () => {
    await write('local-first')
    await applied('local-first')
    await answersFrom('edge')
  })

  it('a value that is not understood is shown by name with its fix, and counts as absent', async () => {
    await write('failover')
    await eventually(async () => {
      const { stdout } = await done(edge().ctl('status'))
      assert.match(stdout, /rhizome\.io\/balance has the term failover without clusters/)
      assert.equal((await edge().pod(0).resolve(NAME)).addresses.length, 3)
      for (const by of ['west', 'east', 'edge'] as const) {
        const shown = (await done(site(by).ctl('services', 'shop/web'))).stdout
        assert.match(
          shown,
          /The policy of edge \(failover\) is not in force: .*the term failover without clusters/
        )
      }
      return true
    }, FAILOVER_MS)
  })

  it('failover=west,east: west answers; when it vanishes, east does; when it is back, west does', async () => {
    await write('failover=west,east')
    await applied('failover=west,east')
    await answersFrom('west')
    await site('west').powerOff()
    await answersFrom('east')
    const { stdout } = await done(edge().ctl('services', 'shop/web'))
    assert.match(stdout, /west +0% +0 +no tunnel to it is up/)
    assert.match(stdout, /east +100% +2 +it is the first in failover with an endpoint/)
    await site('west').powerOn()
    await answersFrom('west')
  })

  /** Writes the annotation to the Service shop/web of the cluster edge. */
  async function write(policy: string): Promise<void> {
    const file = join(edge().manifests, 'storefront.yaml')
    const text = readFileSync(file, 'utf8').replace(/\n {2}annotations:\n.*\n/, '\n')
    const at = text.indexOf('  name: web\n')
    const annotation = `  annotations:\n    rhizome.io/balance: ${policy}\n`
    writeFileSync(file, `${text.slice(0, at)}${annotation}${text.slice(at)}`)
  }

  async function applied(policy: string): Promise<BalancedRow> {
    let found: BalancedRow | undefined
    await eventually(async () => {
      const { balanced = [] } = await look<ServicesAnswer>(edge(), 'services')
      found = balanced.find(({ name, policy: now }) => name === 'web' && now === policy)
      return found !== undefined
    }, FAILOVER_MS)
    assert.ok(found)
    return found
  }

  /** Asks the merged name, and counts the answers of each cluster. */
  async function countAnswers(count = COUNT): Promise<Partial<Record<Cluster, number>>> {
    const { answers, error } = await edge().pod(0).tcp(NAME, 80, { count })
    assert.equal(error, undefined)
    const counts: Partial<Record<Cluster, number>> = {}
    for (const { pod } of answers) {
      const cluster = pod.slice(0, pod.indexOf('-')) as Cluster
      counts[cluster] = (counts[cluster] ?? 0) + 1
    }
    return counts
  }

  /** All answers come from this cluster, within the deadline. */
  async function answersFrom(cluster: Cluster): Promise<void> {
    await eventually(async () => {
      assert.deepEqual(await countAnswers(30), { [cluster]: 30 })
      return true
    }, FAILOVER_MS)
  }
})
