// The plan compares every field: each leaf of a whole HostState is varied alone, and the plan must lead there.
import assert from 'node:assert/strict'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { normalizeHost } from '../../../src/core/host/normalize.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { plan } from '../../../src/core/host/plan.ts'

/** Nothing is optional here: a new field of any of the types must get a value below, and is then varied by itself. */
type Whole<T> = T extends readonly (infer Item)[]
  ? readonly Whole<Item>[]
  : T extends string | number | boolean
    ? T
    : { readonly [Field in keyof T]-?: Whole<Exclude<T[Field], undefined>> }

const WHOLE: Whole<HostState> = {
  tunnel: { device: 'rz0', listenPort: 51820, mtu: 1420, publicKey: 'self' as WireguardKey },
  peers: [
    {
      publicKey: 'peer1' as WireguardKey,
      peerAddress: '192.0.2.1:51820' as PeerAddress,
      allowedIps: ['10.1.0.0/16' as Cidr],
      keepaliveSeconds: 15
    }
  ],
  routes: [
    {
      destination: '10.1.0.0/16' as Cidr,
      source: '10.9.0.1' as Ip,
      kind: 'unreachable',
      mtu: 1300,
      inner: true
    }
  ],
  vips: [{ destination: '10.101.0.0/16' as Cidr, source: '10.9.0.1' as Ip, kind: 'throw' }],
  virtualServers: [
    {
      vip: '10.101.0.1' as Ip,
      protocol: 'TCP',
      port: 80,
      scheduler: 'rr',
      affinitySeconds: 0,
      realServers: [{ ip: '10.1.0.1' as Ip, port: 8080, weight: 1 }]
    }
  ],
  filter: {
    remoteSources: ['10.1.0.0/16' as Cidr],
    localDestinations: ['10.9.0.0/16' as Cidr],
    probePort: 4000,
    mtu: 1420,
    guardedVips: ['10.101.0.0/16' as Cidr],
    ownNetworks: ['10.101.9.0/24' as Cidr],
    hostEndpoints: ['10.9.0.1 TCP 8080'],
    ownSources: ['10.1.9.0/24' as Cidr],
    checkedDevices: ['eth0'],
    overlayDevices: ['flannel.1'],
    containerBridges: ['docker0'],
    reach: 'services',
    reachable: ['10.9.0.7 TCP 8080'],
    reachableFrom: ['10.2.0.0/16 10.9.0.7 TCP 8080'],
    barredSources: ['10.1.7.0/24' as Cidr],
    nodeSources: ['10.9.3.0/24' as Cidr],
    translatedPods: ['10.9.0.0/16 10.128.0.0/16']
  },
  sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
}

type Path = readonly (string | number)[]

function leaves(value: unknown, path: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return Object.entries(value).flatMap(([key, item]) => leaves(item, [...path, key]))
}

/** A value of the same kind that is another one. */
function other(value: unknown): unknown {
  if (typeof value === 'number') return value + 1
  const text = String(value)
  const others: Record<string, string> = { TCP: 'UDP', rr: 'mh' }
  return (
    others[text] ??
    (/\d\./.test(text) ? text.replace(/\d+/, (digits) => String(Number(digits) + 1)) : `${text}x`)
  )
}

function varied(value: unknown, [key, ...rest]: Path, change: (leaf: unknown) => unknown): unknown {
  if (key === undefined) return change(value)
  const copy: unknown = Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) }
  const fields = copy as Record<string | number, unknown>
  fields[key] = varied(fields[key], rest, change)
  return copy
}

describe('the comparison of a desired state with a host', () => {
  const have = normalizeHost(WHOLE)
  const everything = leaves(WHOLE)

  it('has a leaf for every field', () => assert.ok(everything.length >= 25, String(everything.length)))

  for (const path of everything) {
    it(`sees ${path.join('.')} alone, and the plan leads to it`, () => {
      const want = normalizeHost(varied(WHOLE, path, other) as HostState)
      assert.notDeepEqual(want, have)
      const ops = plan(want, have)
      assert.ok(ops.length > 0)
      const after = applyOps(have, ops)
      const names = new Set(want.sysctls.map(({ name }) => name))
      // A sysctl that is no longer wanted is left alone until cleanup.
      assert.deepEqual({ ...after, sysctls: after.sysctls.filter(({ name }) => names.has(name)) }, want)
      assert.deepEqual(plan(want, after), [])
    })
  }

  it('sees a filter that begins or ends to guard service prefixes', () => {
    const { guardedVips: _, ...open } = WHOLE.filter
    const unguarded = normalizeHost({ ...WHOLE, filter: open })
    assert.deepEqual(
      plan(have, unguarded).map(({ kind }) => kind),
      ['setFilter']
    )
    assert.deepEqual(
      plan(unguarded, have).map(({ kind }) => kind),
      ['setFilter']
    )
    // Before all is known, nothing that is guarded is opened.
    assert.deepEqual(plan(unguarded, have, { keeps: 'all' }), [])
  })
})
