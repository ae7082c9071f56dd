import assert from 'node:assert/strict'
import { HostNetworks } from '../../../src/app/host/host-networks.ts'
import type { FaultText } from '../../../src/app/observe/health.ts'
import type { MeshView } from '../../../src/core/view/view.ts'

/** The severity and the fix of the overlap of east (10.2.0.0/16, tunnel address 10.2.0.1) with one network of the host. */
async function overlapWith(
  destination: string,
  outer = '203.0.113.12',
  { code = 'PREFIX_OVERLAP', balanceCidr = '240.240.0.0/16' } = {}
): Promise<FaultText | undefined> {
  const faults = new Map<string, readonly FaultText[]>()
  const health = {
    clear: () => undefined,
    setError: (code: string, error: unknown) => assert.fail(`${code}: ${String(error)}`),
    replace: (code: string, texts: readonly FaultText[]) => void faults.set(code, texts)
  }
  const networks = new HostNetworks({
    host: {
      surroundings: async () => ({
        networks: [{ destination, device: 'docker0', onLink: true }],
        gateways: [],
        addresses: []
      })
    },
    settings: { 'dns-upstream': 'none', 'balance-cidr': balanceCidr },
    health,
    controls: () => []
  } as unknown as ConstructorParameters<typeof HostNetworks>[0])
  await networks.refresh()
  const agent = {
    node: 'east-gw',
    role: 'gateway',
    tunnelAddress: '10.2.0.1',
    multiaddrs: [],
    wireguardAddresses: [`${outer}:51820`]
  }
  const east = {
    name: 'east',
    podPrefixes: ['10.2.0.0/16'],
    servicePrefixes: [],
    agents: [{ origin: 'e', agent }]
  }
  networks.judge({ self: 'west', clusters: new Map([['east', east]]) } as unknown as MeshView)
  return faults.get(code)?.[0]
}

describe('an overlap of a network of the host', () => {
  it('is an error where it takes the end of the tunnel or the whole prefix, with the way to find it', async () => {
    for (const network of ['10.2.0.0/24', '10.2.0.0/16']) {
      const fault = await overlapWith(network)
      assert.equal(fault?.severity, 'error', network)
      assert.match(
        fault.fix,
        /remove or renumber that network or route of this host \(`ip route show 10\.2\.0\.0\/16`/
      )
    }
  })

  it('is a warning where only pods are in it, and where the hosts of the cluster are in it themselves', async () => {
    assert.equal((await overlapWith('10.2.77.0/24'))?.severity, 'warning')
    assert.equal((await overlapWith('10.2.0.0/16', '10.2.200.1'))?.severity, 'warning')
    assert.equal(await overlapWith('10.3.0.0/16'), undefined)
  })
})

describe('the prefix of balanced services', () => {
  const found = (network: string, balanceCidr?: string) =>
    overlapWith(network, undefined, { code: 'BALANCE_CIDR_OVERLAP', ...(balanceCidr && { balanceCidr }) })

  it('is an error where it shares addresses with a network of this host or a prefix of a cluster', async () => {
    assert.match(
      (await found('240.240.3.0/24'))?.message ?? '',
      /240\.240\.3\.0\/24 of this host, on docker0/
    )
    for (const cidr of ['10.2.0.0/18', '10.0.0.0/12'])
      assert.match(
        (await found('192.0.2.0/24', cidr))?.message ?? '',
        /overlaps 10\.2\.0\.0\/16 of cluster east/
      )
  })

  it('is none inside a wider network of this host, as 10.0.0.0/8 behind a router', async () => {
    assert.equal(await found('10.0.0.0/8', '10.250.0.0/16'), undefined)
    assert.equal(await found('192.0.2.0/24'), undefined)
  })
})
