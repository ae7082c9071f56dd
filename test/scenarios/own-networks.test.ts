// Networks that hosts have beside the mesh: no prefix of the mesh takes them away.
import assert from 'node:assert/strict'
import type { RoutesAnswer } from '../../src/api/answers.ts'
import { wanAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { init, invite, look, peer, raise, reaches, refused, status, unite } from './harness.ts'

describe('a mesh whose hosts have networks of their own', function () {
  const { site, world } = raise('own-networks', ['west', 'east', 'edge'])
  const west = () => site('west')
  const east = () => site('east')

  before(() => unite(west(), east()))

  it('does not give away the network in which its gateways reach each other, and says what it would hide', async () => {
    const asked = (cidr: string) =>
      refused(west().ctl('invite', 'n7', '--pod-cidr', cidr, '--service-cidr', '10.107.0.0/16'))
    for (const cidr of ['203.0.113.0/24', '203.0.113.12/32', '203.0.112.0/20']) {
      // The hosts have joined, but west may not have the addresses of east yet.
      let said = ''
      await eventually(async () => {
        said = await asked(cidr)
        assert.match(
          said,
          new RegExp(`${wanAddress('east')}, an outer address of east-gw of cluster east`),
          cidr
        )
        return true
      })
      assert.match(said, /never the network in which hosts reach each other/)
    }
  })

  it('keeps a network that a host gets later, inside a prefix of another cluster, and says what stays outside', async () => {
    const lan = await world().lab.namespace('lan')
    await world().lab.link(west().gateway, 'lan0', ['10.2.77.1/24'], lan, 'eth0', ['10.2.77.2/24'])
    const fault = async () =>
      (await status(west())).health?.faults.find(({ code }) => code === 'PREFIX_OVERLAP')
    await eventually(async () => (await fault())?.message.includes('10.2.77.0/24 on lan0'), 20_000)
    await eventually(
      async () =>
        (await west().gateway.exec(['ping', '-c1', '-W1', '10.2.77.2'], { check: false })).exitCode === 0
    )
    await reaches(west(), east())
    const { routes } = await look<RoutesAnswer>(west(), 'routes')
    assert.match(
      routes.find(({ destination }) => destination === '10.2.0.0/16')?.reason ?? '',
      /10\.2\.77\.0\/24/
    )
    await west().gateway.exec(['ip', 'link', 'delete', 'lan0'])
    await eventually(async () => (await fault()) === undefined, 20_000)
  })
})

describe('a flat network, where each gateway’s only address lies in its own pod prefix', function () {
  const { site } = raise('flat', ['west', 'east'], { start: false })
  const west = () => site('west')
  const east = () => site('east')
  const flatAddress = (at: Site) => (at.cluster === 'west' ? '10.1.200.1' : '10.2.200.1')

  it('joins, and meets again after a restart of one agent', async () => {
    for (const at of [west(), east()]) {
      await at.gateway.exec(['ip', 'address', 'flush', 'dev', 'wan0'])
      await at.gateway.exec(['ip', 'address', 'add', `${flatAddress(at)}/8`, 'dev', 'wan0'])
      await at.gateway.exec(['ip', 'route', 'add', 'default', 'via', '10.254.0.1', 'dev', 'wan0'])
      await at.start()
    }
    await init(west())
    const joining = east().ctl('join', await invite(west(), 'east'))
    assert.equal((await joining).exitCode, 0)
    const both = async () => {
      for (const [from, to] of [
        [west(), east()],
        [east(), west()]
      ] as const) {
        await eventually(async () => {
          const row = await peer(from, to.cluster)
          assert.deepEqual([row?.state, row?.connected], ['up', true])
          return true
        }, 30_000)
        await reaches(from, to)
      }
    }
    await both()
    await west().stop('SIGTERM')
    await west().start()
    await both()
  })
})
