import assert from 'node:assert/strict'
import type { VirtualServer } from '../../../src/core/host.ts'
import type { Ip } from '../../../src/core/model.ts'
import { parseIpvs, parsePersistence } from '../../../src/io/host/lb-ipvs-proc.ts'
import { deltaCommands } from '../../../src/io/host/lb-ipvs.ts'

// As printed by Linux 6.1.
const PROC = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  00000007 rr
  -> 0A010009:0050      Masq    1      0          0
UDP  0A000001:0050 mh  ops
TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0051 wrr persistent 1000 80000000
  -> [fd00:0000:0000:0000:0000:0000:0000:0005]:1F90      Masq    1      0          0
TCP  0A000001:0050 rr  persistent 30000 FFFFFFFF
  -> 0A01000C:0050      Route   3      0          0
  -> 0A010001:0050      Masq    0      0          0
SCTP  0A000001:0050 wrr
`

describe('/proc/net/ip_vs', () => {
  it('is read with IPv6, persistence, weights and methods; firewall marks are not ours', () => {
    assert.deepEqual(parseIpvs(PROC), [
      { vip: '10.0.0.1', protocol: 'UDP', port: 80, scheduler: 'mh', persistentTicks: 0, realServers: [] },
      {
        vip: 'fd00::1',
        protocol: 'TCP',
        port: 81,
        scheduler: 'wrr',
        persistentTicks: 1000,
        realServers: [{ ip: 'fd00::5', port: 8080, weight: 1, forward: 'Masq' }]
      },
      {
        vip: '10.0.0.1',
        protocol: 'TCP',
        port: 80,
        scheduler: 'rr',
        persistentTicks: 30_000,
        realServers: [
          { ip: '10.1.0.1', port: 80, weight: 0, forward: 'Masq' },
          { ip: '10.1.0.12', port: 80, weight: 3, forward: 'Route' }
        ]
      },
      { vip: '10.0.0.1', protocol: 'SCTP', port: 80, scheduler: 'wrr', persistentTicks: 0, realServers: [] }
    ])
    assert.deepEqual(parseIpvs(''), [])
  })

  it('gets its seconds from ipvsadm', () => {
    assert.equal(parsePersistence('-A -t 10.0.0.1:80 -s rr -p 300'), 300)
    assert.equal(parsePersistence('-A -t 10.0.0.1:80 -s rr'), undefined)
    assert.equal(parsePersistence('-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0'), undefined)
  })
})

describe('ipvsadm commands', () => {
  const server = (
    weights: Readonly<Record<string, number>>,
    more: Partial<VirtualServer> = {}
  ): VirtualServer => ({
    vip: '10.96.0.1' as Ip,
    protocol: 'TCP',
    port: 80,
    scheduler: 'rr',
    affinitySeconds: 0,
    realServers: Object.entries(weights).map(([ip, weight]) => ({ ip: ip as Ip, port: 8080, weight })),
    ...more
  })

  it('are deltas: none for the same, a new backend before an old one goes', () => {
    const have = server({ '10.1.0.1': 1, '10.1.0.2': 1 })
    assert.deepEqual(deltaCommands(have, have), [])
    assert.deepEqual(deltaCommands(have, server({ '10.1.0.2': 0, '10.1.0.3': 5 })), [
      '-e -t 10.96.0.1:80 -r 10.1.0.2:8080 -m -w 0',
      '-a -t 10.96.0.1:80 -r 10.1.0.3:8080 -m -w 5',
      '-d -t 10.96.0.1:80 -r 10.1.0.1:8080'
    ])
    assert.deepEqual(deltaCommands(have, undefined), ['-D -t 10.96.0.1:80'])
  })

  it('edit scheduler and persistence, in IPv6 with brackets', () => {
    const vip = 'fd96::1' as Ip
    const have = server({}, { vip, protocol: 'UDP' })
    assert.deepEqual(deltaCommands(have, { ...have, affinitySeconds: 60 }), [
      '-E -u [fd96::1]:80 -s rr -p 60'
    ])
    assert.deepEqual(
      deltaCommands(undefined, server({ 'fd01::1': 1 }, { vip, protocol: 'SCTP', scheduler: 'mh' })),
      ['-A --sctp-service [fd96::1]:80 -s mh', '-a --sctp-service [fd96::1]:80 -r [fd01::1]:8080 -m -w 1']
    )
    // What the kernel holds is no wish: it is set again.
    assert.deepEqual(deltaCommands({ ...have, affinitySeconds: -1 }, have), ['-E -u [fd96::1]:80 -s rr'])
  })
})
