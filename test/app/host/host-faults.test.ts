// Steps that failed on this host, as faults: what follows from a device that is not there does not lead astray.
import assert from 'node:assert/strict'
import { reportHostFaults, STEP_FAILED } from '../../../src/app/host/host-faults.ts'
import type { FaultText } from '../../../src/app/observe/health.ts'
import type { Cidr, WireguardKey } from '../../../src/core/model/values.ts'
import type { HostOp } from '../../../src/core/host/host-state.ts'

const tunnel: HostOp = {
  kind: 'setTunnel',
  tunnel: { device: 'rhizome0', listenPort: 51820, mtu: 1420, publicKey: 'key' as WireguardKey }
}
const vip: HostOp = { kind: 'addVip', vip: { destination: '10.102.0.0/16' as Cidr, source: undefined } }
const sysctl = (name: string): HostOp => ({ kind: 'setSysctl', sysctl: { name, value: '2' } })

function fixes(...ops: readonly HostOp[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  const replace = (code: string, texts: readonly (FaultText & { readonly subject: string })[]) => {
    if (code === STEP_FAILED) for (const { subject, fix } of texts) found.set(subject, fix)
  }
  const error = Object.assign(new Error('no'), { code: 'NO', fix: 'its own fix' })
  reportHostFaults(
    { replace },
    { steps: ops.map((op) => ({ op, error, failures: 0, dueMs: 0 })), parts: [] },
    () => undefined
  )
  return found
}

describe('failed steps on the host', () => {
  it('send to the fault of the device while it is not set up, those alone that need it', () => {
    const first = /^first correct the fault of the WireGuard device/
    const found = fixes(tunnel, vip, sysctl('net.ipv4.conf.rhizome0.rp_filter'))
    assert.doesNotMatch(found.get('WireGuard device') ?? '', first)
    assert.match(found.get('service prefixes') ?? '', first)
    assert.match(found.get('kernel settings') ?? '', first)
    assert.doesNotMatch(fixes(tunnel, sysctl('net.ipv4.ip_forward')).get('kernel settings') ?? '', first)
  })

  it('keep their own fix while the device is there', () => {
    for (const op of [vip, sysctl('net.ipv4.conf.rhizome0.rp_filter')])
      for (const fix of fixes(op).values()) assert.doesNotMatch(fix, /WireGuard device/)
  })
})
