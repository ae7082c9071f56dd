// The main scenario on hosts that look like a user's: two uplinks, Docker's bridges and rules, another VPN, FORWARD DROP, IPv6 by router
// advertisement, a host name with capitals and an underscore. The mesh works, and everything of the host's works on.
import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { serviceIp } from '../demo/checks.ts'
import { podAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { announce, done, inStep, network, raise, reaches, status, undisturbed, unite } from './harness.ts'

describe('gateways that look like a user’s hosts', function () {
  const { site } = raise('user hosts', ['west', 'east'], { start: false, userHosts: {} })
  const sites = () => [site('west'), site('east')] as const
  let untouched: readonly string[] = []

  before(async function () {
    untouched = await Promise.all(sites().map(network))
    await Promise.all(sites().map((each) => each.start()))
    await unite(...sites())
  })

  it('join, and pods reach services by address and by name both ways, seen with their own addresses', async () => {
    const [west, east] = sites()
    for (const [from, to] of [
      [west, east],
      [east, west]
    ] as const) {
      await reaches(from, to)
      const { answers } = await from.pod(0).tcp(serviceIp[to.cluster], 80, { count: 6 })
      assert.equal(answers.length, 6)
      assert.ok(answers.every(({ client }) => client === podAddress(from.cluster, 0)))
      await eventually(async () => {
        const { addresses } = await from.pod(0).resolve(`web.shop.svc.cluster.${to.cluster}`)
        return addresses.includes(serviceIp[to.cluster])
      })
    }
  })

  it('have names that a peer takes, and are up to date without a fault', async () => {
    for (const each of sites()) {
      await inStep(each)
      await eventually(async () => {
        assert.deepEqual((await status(each)).warnings, [])
        return true
      })
    }
    const { peers } = await site('west').ask<{ peers: { cluster: string; node: string }[] }>('peers')
    assert.match(peers.find(({ cluster }) => cluster === 'east')?.node ?? '', /^my-gateway-east$/)
  })

  it('keep their default routes of both families, their VPN and their bridges', async () => {
    for (const each of sites()) await keepsItsOwn(each)
  })

  it('carry changes without a lost request, over a restart of an agent', async () => {
    const [west, east] = sites()
    await undisturbed(west, east, async () => {
      await announce(east, 'user').seen(west)
      await east.stop('SIGTERM')
      const { size } = statSync(east.log)
      await east.start()
      await announce(east, 'again').seen(west)
      await inStep(east)
      // West announces an address of each uplink: the tunnel stays with the one that it has.
      assert.doesNotMatch(readFileSync(east.log, 'utf8').slice(size), /setPeer/)
    })
    await keepsItsOwn(east)
  })

  it('are as they were when they have left', async () => {
    for (const [index, each] of sites().toReversed().entries()) {
      await done(each.ctl('leave', '--yes'))
      await eventually(async () => {
        const before = untouched[1 - index] ?? ''
        assert.deepEqual((await network(each)).split('\n'), before.split('\n'))
        return true
      })
      await keepsItsOwn(each)
    }
  })
})

async function keepsItsOwn({ gateway }: Site): Promise<void> {
  const via = async (...to: readonly string[]) => (await gateway.exec(['ip', 'route', 'get', ...to])).stdout
  assert.match(await via('192.0.2.1'), /via 198\.51\.100\.1 dev wan1/)
  assert.match(await via('10.200.7.7'), /dev corp0 table 51820/)
  assert.match(await via('172.17.0.9'), /dev docker0/)
  assert.match(await via('172.18.0.9'), /dev br-5f3c0a1b2c3d/)
  const { stdout } = await gateway.exec(['ip', '-6', 'route', 'show', 'default'])
  assert.match(stdout, /dev wan1 proto ra/)
}
