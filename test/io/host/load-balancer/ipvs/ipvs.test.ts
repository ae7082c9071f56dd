import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { VirtualServer } from '../../../../../src/core/host/host-state.ts'
import type { Ip } from '../../../../../src/core/model/values.ts'
import { parseIpvs } from '../../../../../src/io/host/load-balancer/ipvs/listing.ts'
import { createIpvsLoadBalancer, deltaCommands } from '../../../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import type { Run } from '../../../../../src/io/host/ports.ts'
import { compareRealServers } from '../../../../../src/io/host/load-balancer/order.ts'

// As printed by ipvsadm 1.31.
const LISTING = `-A -f 7 -s rr
-a -f 7 -r 10.1.0.9:80 -m -w 1
-A -t 10.0.0.1:80 -s rr -p 300
-a -t 10.0.0.1:80 -r 10.1.0.12:80 -g -w 3
-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0
-A -u 10.0.0.1:80 -s mh -O
-A -t [fd00::1]:81 -s wrr -p 60
-a -t [fd00::1]:81 -r [fd00::5]:8080 -m -w 1
-A --sctp-service 10.0.0.1:80 -s wrr -b flag-1
`

describe('the listing of ipvsadm', () => {
  it('is read with IPv6, persistence, weights and methods; firewall marks are not ours', () => {
    assert.deepEqual(parseIpvs(LISTING), [
      {
        vip: '10.0.0.1',
        protocol: 'TCP',
        port: 80,
        scheduler: 'rr',
        persistentSeconds: 300,
        unusual: false,
        realServers: [
          { ip: '10.1.0.1', port: 80, weight: 0, masquerades: true },
          { ip: '10.1.0.12', port: 80, weight: 3, masquerades: false }
        ]
      },
      {
        vip: '10.0.0.1',
        protocol: 'UDP',
        port: 80,
        scheduler: 'mh',
        persistentSeconds: 0,
        unusual: true,
        realServers: []
      },
      {
        vip: 'fd00::1',
        protocol: 'TCP',
        port: 81,
        scheduler: 'wrr',
        persistentSeconds: 60,
        unusual: false,
        realServers: [{ ip: 'fd00::5', port: 8080, weight: 1, masquerades: true }]
      },
      {
        vip: '10.0.0.1',
        protocol: 'SCTP',
        port: 80,
        scheduler: 'wrr',
        persistentSeconds: 0,
        unusual: true,
        realServers: []
      }
    ])
    assert.deepEqual(parseIpvs(''), [])
  })

  it('reads back whatever the commands for it say, for any virtual server', () => {
    const address = fc.constantFrom('10.96.0.1', '10.96.255.254', 'fd96::1', 'fd96::ffff:1')
    const port = fc.integer({ min: 1, max: 65_535 })
    const servers = fc.record({
      vip: address,
      protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
      port,
      scheduler: fc.constantFrom('rr', 'wrr', 'mh', 'lc'),
      affinitySeconds: fc.constantFrom(0, 1, 10_800),
      realServers: fc.uniqueArray(
        fc.record({ ip: address, port, weight: fc.integer({ min: 0, max: 65_535 }) }),
        {
          selector: ({ ip, port: realPort }) => `${ip} ${realPort}`,
          maxLength: 4
        }
      )
    })
    fc.assert(
      fc.property(servers, (any) => {
        const server = any as unknown as VirtualServer
        const [read] = parseIpvs(deltaCommands(undefined, server).join('\n'))
        const { unusual, persistentSeconds, realServers, ...same } = read ?? assert.fail('not read')
        assert.deepEqual(
          { ...same, affinitySeconds: persistentSeconds, unusual, realServers: [] },
          { ...server, unusual: false, realServers: [] }
        )
        assert.deepEqual(
          realServers,
          server.realServers.map((real) => ({ ...real, masquerades: true })).sort(compareRealServers)
        )
      })
    )
  })
})

/** An ipvsadm with a table in memory that complains as the real one does; `blind`: its listing lacks these services. */
function fakeIpvsadm(table: string[], { blind = [] as readonly string[] } = {}): Run {
  const exists = (prefix: string): boolean => table.some((line) => line.startsWith(`${prefix} `))
  const set = (line: string): string => {
    const [command = '', flag = '', address = '', , real = ''] = line.split(' ')
    const service = `-A ${flag} ${address}`
    const destination = `-a ${flag} ${address} -r ${real}`
    const without = (prefix: string): void => {
      table.splice(0, table.length, ...table.filter((each) => !each.startsWith(`${prefix} `)))
    }
    if (command === '-A' && exists(service)) return 'Service already exists'
    if (command === '-a' && exists(destination)) return 'Destination already exists'
    if (command !== '-A' && !exists(service)) return 'No such service'
    if ((command === '-e' || command === '-d') && !exists(destination)) return 'No such destination'
    const edited = command === '-E' ? service : destination
    const at = table.findIndex((each) => each.startsWith(`${edited} `))
    if (command === '-E') table[at] = `-A${line.slice(2)}`
    if (command === '-e') table[at] = `-a${line.slice(2)}`
    if (command === '-d') without(destination)
    if (command === '-D') for (const prefix of [service, `-a ${flag} ${address}`]) without(prefix)
    if (command === '-A' || command === '-a') table.push(line)
    return ''
  }
  return (tool, args, options = {}) => {
    let [stdout, stderr] = ['', '']
    if (tool === 'ipvsadm' && args[0] === '-S')
      stdout = table.filter((line) => !blind.some((text) => line.includes(text))).join('\n')
    if (tool === 'ipvsadm' && args[0] === '-R')
      stderr = (options.stdin ?? '')
        .trim()
        .split('\n')
        .map(set)
        .filter((text) => text !== '')
        .join('\n')
    return Promise.resolve({ stdout, stderr, exitCode: 0 })
  }
}

describe('a change of the IPVS load balancer', () => {
  const { signal } = new AbortController()
  const names = { vipPrefixes: () => ['10.96.0.0/16'] }
  const web: VirtualServer = {
    vip: '10.96.0.1' as Ip,
    protocol: 'TCP',
    port: 80,
    scheduler: 'rr',
    affinitySeconds: 0,
    realServers: [{ ip: '10.1.0.1' as Ip, port: 8080, weight: 1 }]
  }

  it('is no error for what exists already in another form, or is gone already', async () => {
    const table = ['-A -t 10.96.0.1:80 -s wrr -p 50', '-a -t 10.96.0.1:80 -r 10.1.0.9:80 -m -w 1']
    const balancer = createIpvsLoadBalancer({ run: fakeIpvsadm(table), names })
    await balancer.apply([{ want: web, have: undefined }], signal)
    assert.deepEqual(await balancer.observe(signal), [web])
    await balancer.apply([{ want: undefined, have: web }], signal)
    await balancer.apply([{ want: undefined, have: web }], signal)
    assert.deepEqual(table, [])
  })

  it('converges even where the kernel lists only some of its services', async () => {
    const table = ['-A -t 10.96.0.1:80 -s wrr', '-a -t 10.96.0.1:80 -r 10.1.0.1:8080 -m -w 9']
    const blind = createIpvsLoadBalancer({ run: fakeIpvsadm(table, { blind: ['10.96.0.1:80'] }), names })
    await blind.apply([{ want: web, have: undefined }], signal).catch(() => undefined)
    assert.deepEqual(await createIpvsLoadBalancer({ run: fakeIpvsadm(table), names }).observe(signal), [web])
  })

  it('that another program undoes is counted once, and our own removals are not', async () => {
    const table: string[] = ['-A -t 192.0.2.1:80 -s rr']
    const balancer = createIpvsLoadBalancer({ run: fakeIpvsadm(table), names })
    const mail = { ...web, port: 25 }
    const lost = async (): Promise<number | undefined> => {
      await balancer.observe(signal)
      return (await balancer.rivals?.(signal))?.lost
    }
    await balancer.apply(
      [web, mail].map((want) => ({ want, have: undefined })),
      signal
    )
    await balancer.apply([{ want: undefined, have: mail }], signal)
    assert.equal(await lost(), 0)
    table.splice(1)
    assert.equal(await lost(), 1)
    assert.equal(await lost(), 1)
    await balancer.apply([{ want: web, have: undefined }], signal)
    assert.deepEqual(await balancer.rivals?.(signal), {
      kubeProxy: true, // its device is what this `ip` answers for
      foreign: 1,
      lost: 1,
      prefixes: names.vipPrefixes()
    })
  })

  it('is an error with what ipvsadm says while the kernel refuses it', async () => {
    const refusing: Run = (_, args) =>
      Promise.resolve({ stdout: '', stderr: args[0] === '-R' ? 'Scheduler not found: rr' : '', exitCode: 0 })
    const balancer = createIpvsLoadBalancer({ run: refusing, names })
    await assert.rejects(balancer.apply([{ want: web, have: undefined }], signal), /Scheduler not found: rr/)
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
    // What the kernel holds is no desired state: it is set again.
    assert.deepEqual(deltaCommands({ ...have, affinitySeconds: -1 }, have), ['-E -u [fd96::1]:80 -s rr'])
  })
})
