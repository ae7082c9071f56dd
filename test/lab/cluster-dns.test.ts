// The block that goes into the cluster's own Corefile, read by the real CoreDNS: the mesh's names are forwarded, all others answered as before.
import assert from 'node:assert/strict'
import { wireCorefile } from '../../src/core/coredns/cluster-dns.ts'
import { eventually } from '../eventually.ts'
import { addressesOf, startCoredns, type RunningCoredns } from './support/coredns.ts'
import { KUBE_LAB_BUILD_MS } from './support/kube-api.ts'

const OWN = (port: number): string => `.:${port} {
    hosts {
        10.96.0.10 kube-dns.kube-system.svc.cluster.local
    }
    reload 2s 1s
}
`

describe('the cluster’s own CoreDNS, wired', () => {
  const running: RunningCoredns[] = []
  after(() => Promise.all(running.map((coredns) => coredns.stop())))

  it('answers the mesh’s names and its own, takes up a change by itself, and is as before once undone', async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    const zones = ['cluster.east', '102.10.in-addr.arpa']
    const mesh = await startCoredns(
      (port) =>
        `${zones.map((zone) => `${zone}:${port}`).join(' ')} {\n hosts {\n 10.102.0.7 web.shop.svc.cluster.east\n }\n}\n`,
      'web.shop.svc.cluster.east'
    )
    running.push(mesh)
    const wired = (port: number): string => {
      const edit = wireCorefile(OWN(port), { zones, servers: [`127.0.0.1:${mesh.port}`] })
      return edit.kind === 'text' ? edit.text : assert.fail(edit.reason)
    }
    const own = await startCoredns(OWN, 'kube-dns.kube-system.svc.cluster.local')
    running.push(own)
    const local = (): Promise<string> => addressesOf(own.port, 'kube-dns.kube-system.svc.cluster.local')
    const remote = (): Promise<string> => addressesOf(own.port, 'web.shop.svc.cluster.east')
    assert.deepEqual([await local(), await remote()], ['10.96.0.10', 'SERVFAIL'])
    await own.rewrite(wired(own.port))
    await eventually(async () => (await remote()) === '10.102.0.7', 20_000)
    assert.equal(await local(), '10.96.0.10')
    await own.rewrite(OWN(own.port))
    await eventually(async () => (await remote()) === 'SERVFAIL', 20_000)
    assert.equal(await local(), '10.96.0.10')
  })
})
