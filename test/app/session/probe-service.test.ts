// That a gateway which falls silent is told of where its cluster has another one.
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { ProbeService } from '../../../src/app/session/probe-service.ts'
import type { Served } from '../../../src/app/session/services.ts'
import type { Settings } from '../../../src/app/settings/settings.ts'
import type { ClusterName, Ip, Origin } from '../../../src/core/model/values.ts'
import type { AgentView, ClusterView } from '../../../src/core/view/view.ts'
import { eventually } from '../../eventually.ts'

const PORT = 17_961
const [OWN, ONE, TWO] = ['127.0.0.91', '127.0.0.92', '127.0.0.93'] as Ip[] as [Ip, Ip, Ip]

describe('the service of probes', () => {
  const open: Socket[] = []
  let service: ProbeService | undefined

  afterEach(async () => {
    await service?.stop()
    for (const socket of open.splice(0)) socket.close()
  })

  it('tells at once of a silent gateway whose cluster has another one', async () => {
    for (const address of [ONE, TWO])
      for (const port of [PORT, 33_434]) open.push(await listen(address, port))
    let changes = 0
    service = new ProbeService({
      settings: { 'probe-port': PORT, role: 'gateway' } as Partial<Settings> as Settings,
      origin: 'west' as Origin,
      facts: { current: { nodeAddress: OWN }, told: () => undefined },
      mtu: { bytes: 0 },
      reconciler: undefined,
      onChange: () => changes++,
      onStarted: () => undefined,
      seen: () => undefined
    })
    await service.start()
    service.update(served(ONE, TWO))
    await eventually(() => changes > 0)
    assert.ok((service.results?.(ONE)?.unanswered ?? 0) >= 4)
  })
})

function listen(address: Ip, port: number): Promise<Socket> {
  const socket = createSocket('udp4')
  return new Promise((resolve) => socket.bind(port, address, () => resolve(socket)))
}

/** A cluster with a gateway at each of these addresses. */
function served(...addresses: readonly Ip[]): Served {
  const agents = addresses.map((tunnelAddress) => ({
    origin: `at ${tunnelAddress}` as Origin,
    agent: { role: 'gateway', tunnelAddress, probePort: PORT, multiaddrs: [], wireguardAddresses: [] }
  })) as readonly object[] as readonly AgentView[]
  const east = { name: 'east', agents } as Partial<ClusterView> as ClusterView
  const view = { self: 'west' as ClusterName, clusters: new Map([['east' as ClusterName, east]]) }
  return { view } as Partial<Served> as Served
}
