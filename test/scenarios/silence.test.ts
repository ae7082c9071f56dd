// A cluster that loses power for good, while gossip alone is lost with another: the tunnel tells them apart.
import assert from 'node:assert/strict'
import type { PeersAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import type { Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { peer, raise, reaches, undisturbed, unite } from './harness.ts'

describe('a cluster that falls silent', function () {
  const { site } = raise('silence', ['west', 'east', 'edge'])
  const west = () => site('west')
  const east = () => site('east')
  const edge = () => site('edge')

  before(async () => {
    await unite(west(), east(), edge())
    await reaches(west(), east())
    await reaches(west(), edge())
    for (const each of ['east', 'edge'] as const)
      await eventually(async () => (await peer(west(), each))?.rttMs !== undefined)
  })

  it('gossip alone lost: nothing is withdrawn; power lost: backends and names go, and connections are refused at once', async () => {
    await undisturbed(west(), east(), async () => {
      await blockGossip(west())
      await edge().powerOff()
      await eventually(async () => {
        const { error, ms } = await west().pod(0).tcp(serviceIp.edge, 80, { timeoutMs: 1000 })
        assert.equal(error, 'ECONNREFUSED')
        assert.ok(ms < 900)
        return true
      }, 30_000)
      await eventually(async () => {
        const { addresses } = await west().pod(0).resolve('web.shop.svc.cluster.all')
        assert.deepEqual(addresses.toSorted(), [serviceIp.west, serviceIp.east])
        const { peers } = await west().ask<PeersAnswer>('peers')
        const row = (cluster: string) => peers.find((each) => each.cluster === cluster)
        assert.equal(row('edge')?.state, 'down')
        assert.match(row('edge')?.reason ?? '', /no answer through the tunnel for \d+ s/)
        assert.equal(row('east')?.state, 'up')
        assert.equal(row('east')?.connected, false)
        return true
      }, 20_000) // the connection is given up after 10 s of silence
    })
    await west().gateway.exec(['nft', 'delete', 'table', 'inet', 'scenario'])
    await edge().powerOn()
    await reaches(west(), edge(), 20_000)
  })
})

/** Both ways, with every other member; the tunnel is UDP and lives on. */
async function blockGossip(at: Site): Promise<void> {
  const rules = ['input', 'output'].map(
    (hook) => `chain ${hook} {
      type filter hook ${hook} priority -200;
      tcp dport 7946 drop
      tcp sport 7946 drop
    }
    `
  )
  await at.gateway.exec(['nft', '-f', '-'], { input: `table inet scenario {\n${rules.join('\n')}\n}\n` })
}
