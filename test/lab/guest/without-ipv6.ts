// Inside a guest whose kernel has no IPv6: a host is brought to a desired state with both families. Prints what is left and why, as JSON.
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pass } from '../../../src/app/host/pass.ts'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST, normalizeHost } from '../../../src/core/host/normalize.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { plan } from '../../../src/core/host/plan.ts'
import { createHost } from '../../../src/io/host/host.ts'

const ROUNDS_MAX = 12
const signal = AbortSignal.timeout(1_000_000)
const pair = generateKeyPairSync('x25519')
const publicKey = pair.publicKey
  .export({ type: 'spki', format: 'der' })
  .subarray(-32)
  .toString('base64') as WireguardKey
const to = (destination: string) => ({ destination: destination as Cidr, source: undefined })

const want: HostState = normalizeHost({
  ...EMPTY_HOST,
  tunnel: { device: 'rz0', listenPort: 51820, mtu: 1400, publicKey },
  peers: [
    {
      publicKey: `${'B'.repeat(42)}A=` as WireguardKey,
      peerAddress: '192.0.2.2:51820' as PeerAddress,
      allowedIps: ['10.2.0.0/16', 'fd00:2::/64'] as Cidr[],
      keepaliveSeconds: 15
    }
  ],
  routes: [to('10.2.0.0/16'), to('fd00:2::/64')],
  vips: [to('10.92.0.0/16'), to('fd92::/108')],
  virtualServers: ['10.92.0.10', 'fd92::10'].map((vip) => ({
    vip: vip as Ip,
    protocol: 'TCP' as const,
    port: 80,
    scheduler: 'rr' as const,
    affinitySeconds: 0,
    realServers: [{ ip: (vip.includes(':') ? 'fd00:2::11' : '10.2.0.11') as Ip, port: 8080, weight: 1 }]
  })),
  filter: {
    remoteSources: ['10.2.0.0/16', 'fd00:2::/64'] as Cidr[],
    localDestinations: ['10.1.0.0/16'] as Cidr[],
    probePort: 4000,
    mtu: 1400,
    guardedVips: ['10.92.0.0/16', 'fd92::/108'] as Cidr[]
  },
  sysctls: [
    { name: 'net.ipv4.ip_forward', value: '1' },
    { name: 'net.ipv6.conf.all.forwarding', value: '1' }
  ]
})

const host = createHost({
  device: 'rz0',
  privateKey: () => pair.privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32).toString('base64'),
  stateFolder: mkdtempSync(join(tmpdir(), 'rhizome-without-')),
  loadBalancer: process.argv[2] === 'ipvs' ? 'ipvs' : 'nftables'
})
await host.start()
let nowMs = 0
const pass = new Pass({ host, drainMs: 0, now: () => (nowMs += 20_000) })
const isOff = ({ error }: { readonly error: unknown }) =>
  error instanceof Error && 'code' in error && error.code === 'IPV6_OFF'
// On a translated CPU that shares its host, a tool can miss its deadline: such a step is tried again, and its deadline grows.
for (let round = 0; round < ROUNDS_MAX; round += 1) {
  pass.markStale()
  await pass.run({ want, keeps: [] }, signal)
  const { steps, parts } = pass.failures
  if (round >= 2 && parts.length === 0 && steps.every(isOff)) break
}
const { steps, parts } = pass.failures
const left = plan(want, {
  ...EMPTY_HOST,
  ...(await host.look(['tunnel', 'routes', 'virtualServers', 'filter', 'sysctls'], signal)).found
})
const text = (error: unknown) =>
  error instanceof Error ? `${'code' in error ? String(error.code) : ''} ${error.message}` : String(error)
console.log(
  JSON.stringify({
    left: left.map((op) =>
      'route' in op
        ? `${op.kind} ${op.route.destination}`
        : 'vip' in op
          ? `${op.kind} ${op.vip.destination}`
          : op.kind
    ),
    steps: steps.map(({ op, error }) => `${op.kind} ${text(error)}`),
    parts: parts.map(({ part, error }) => `${part} ${text(error)}`)
  })
)
await host.stop()
