// Clusters with IPv6 alone over a link with IPv6 alone, and clusters with both families: the same traffic as with IPv4, by default settings.
import assert from 'node:assert/strict'
import type { Pod, Cluster, Site } from '../demo/site.ts'
import { inIpv6, podAddress } from '../demo/site.ts'
import { serviceIp } from '../demo/checks.ts'
import type { PodReply } from '../demo/pod.ts'
import { eventually } from '../eventually.ts'
import { inStep, raise, unite } from './harness.ts'

const CLUSTERS = ['west', 'east', 'edge'] as const
const PAIRS = CLUSTERS.flatMap((from) =>
  CLUSTERS.filter((to) => to !== from).map((to) => [from, to] as const)
)

/** The reply, when it has no error. */
function answered(reply: PodReply): PodReply {
  assert.equal(reply.error, undefined)
  return reply
}

/** All ways from one cluster to another in one family, and the client's own address at the end of each. */
async function reaches(from: Site, to: Cluster, family: 4 | 6): Promise<void> {
  const of = (text: string): string => (family === 6 ? inIpv6(text) : text)
  const pod: Pod = from.pod(0)
  const own = pod.addresses.find((address) => address.includes(':') === (family === 6))
  const sees = (reply: PodReply): void =>
    assert.deepEqual(new Set(answered(reply).answers.map(({ client }) => client)), new Set([own]))
  await eventually(async () => answered(await pod.tcp(of(serviceIp[to]), 80)))
  const [web, telemetry] = [`web.shop.svc.cluster.${to}`, `telemetry.platform.svc.cluster.${to}`]
  assert.deepEqual(answered(await pod.resolve(web, family)).addresses, [of(serviceIp[to])])
  const byAddress = await pod.tcp(of(serviceIp[to]), 80, { count: 20 })
  sees(byAddress)
  assert.ok(new Set(byAddress.answers.map((answer) => answer.pod)).size > 1, 'not balanced')
  sees(await pod.tcp(web, 80, { family }))
  sees(await pod.udp(telemetry, 8125, { family }))
  sees(await pod.tcp(of(podAddress(to, 1)), 8080))
  sees(await pod.udp(of(podAddress(to, 1)), 9125))
}

for (const families of ['ipv6', 'dual'] as const) {
  describe(`three clusters with ${families === 'ipv6' ? 'IPv6 alone' : 'both families'}`, () => {
    const { site } = raise(families, CLUSTERS, { families })

    before(() => unite(site('west'), site('east'), site('edge')))

    for (const family of families === 'ipv6' ? ([6] as const) : ([4, 6] as const)) {
      for (const [from, to] of PAIRS) {
        it(`carries TCP and UDP over IPv${family} from ${from} to ${to}, by address and by name`, () =>
          reaches(site(from), to, family))
      }

      it(`answers cluster.all with the addresses of IPv${family} of every cluster`, async () => {
        const { addresses } = answered(await site('east').pod(0).resolve('web.shop.svc.cluster.all', family))
        const all = CLUSTERS.map((cluster) => serviceIp[cluster])
        assert.deepEqual(addresses.toSorted(), (family === 6 ? all.map((ip) => inIpv6(ip)) : all).toSorted())
      })
    }

    it('keeps the traffic while an agent restarts, and ends with the host in step', async () => {
      await site('east').stop('SIGKILL')
      await reaches(site('west'), 'east', 6)
      await site('east').start()
      for (const cluster of CLUSTERS) await inStep(site(cluster))
      await reaches(site('east'), 'edge', 6)
    })
  })
}
