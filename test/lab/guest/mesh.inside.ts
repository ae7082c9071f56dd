// Runs in the guest (guest.test.ts boots it): two sites with meshd, IPVS, the packet filter and kernel WireGuard.
import assert from 'node:assert/strict'
import { eventually } from '../../eventually.ts'
import { serviceIp } from '../../demo/checks.ts'
import { podAddress } from '../../demo/site.ts'
import { init, inStep, invite, joins, raise, reaches, status } from '../../scenarios/harness.ts'

describe('two clusters with IPVS and kernel WireGuard', () => {
  const { site } = raise('guest mesh', ['west', 'east'], { start: false })
  const sites = () => [site('west'), site('east')] as const

  before(async function () {
    this.timeout(300_000)
    await Promise.all(sites().map((each) => each.start('--load-balancer', 'ipvs')))
    const [west, east] = sites()
    await init(west)
    const token = await invite(west, 'east')
    await eventually(async () => {
      await joins(east, token)
      return true
    })
  })

  it('pods reach services both ways, spread over their pods, and the hosts are up to date', async () => {
    const [west, east] = sites()
    await reaches(west, east)
    await reaches(east, west)
    const { answers } = await west.pod(0).tcp(serviceIp.east, 80, { count: 6 })
    assert.ok(new Set(answers.map(({ pod }) => pod)).size > 1, JSON.stringify(answers))
    assert.ok(
      answers.every(({ client }) => client === podAddress('west', 0)),
      JSON.stringify(answers)
    )
    for (const each of sites()) {
      await inStep(each, 30_000)
      assert.equal((await status(each)).dataplane.loadBalancer, 'ipvs')
      const link = (await each.gateway.exec(['ip', '-d', 'link', 'show', 'dev', each.device])).stdout
      assert.match(link, /wireguard/)
      assert.match((await each.gateway.exec(['nft', 'list', 'tables'])).stdout, /inet rhizome-filter/)
      const services = (await each.gateway.exec(['ipvsadm', '-S', '-n'])).stdout
      assert.match(services, /^-A -t 10\.10[12]\.0\.10:80 -s rr$/m)
      const { stdout } = await each.gateway.exec(['sysctl', '-n', 'net.ipv4.vs.conntrack'])
      assert.equal(stdout.trim(), '1')
    }
  })
})
