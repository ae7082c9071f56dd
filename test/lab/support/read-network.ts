// Makes an odd network in the namespace of this process, which must be its own, and prints as JSON what is read of it without
// a tool and by the tools: { "<what>": [kernel, tool] }. rtnetlink.test.ts compares the two.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readDropped } from '../../../src/io/host/filter/underlay.ts'
import { openKernelReads } from '../../../src/io/host/kernel/reads.ts'
import { findLink, readLinks, readRoutes, readRules } from '../../../src/io/host/tools/ip.ts'
import { createRun } from '../../../src/io/host/tools/run.ts'
import { parseWgDump, type WgDump } from '../../../src/io/host/tunnel/wireguard/wg-dump.ts'
import { socketOf } from '../../../src/io/host/tunnel/wireguard/wireguard-go.ts'
import type { Run } from '../../../src/io/host/ports.ts'

const [, , device = 'wg0'] = process.argv
const PEER = Buffer.alloc(32, 7).toString('base64')
const OTHER = Buffer.alloc(32, 9).toString('base64')
const MANY = 3_000

const NETWORK = `
link set dev lo up
link add br0 type bridge
link add veth0 type veth peer name veth1
link set dev veth1 master br0
link add up0 mtu 1400 type veth peer name far-up
link property add dev up0 altname a-long-name-of-more-than-fifteen
link add up1 type veth peer name far-up1
link set dev br0 up
link set dev veth0 up
link set dev veth1 up
link set dev up0 up
link set dev up1 up
link set dev far-up up
address add 192.0.2.1/24 dev up0
address add 192.0.2.9 peer 198.51.100.1 dev up0
address add 10.9.0.1/32 dev up0 scope host
address add 2001:db8::1/64 dev up0 nodad
address add 10.77.0.1/24 dev up1
route add default via 192.0.2.254 metric 100
route add default via 192.0.2.253 metric 50 proto 99
route add 10.1.0.0/16 nexthop via 192.0.2.2 weight 1 nexthop via 192.0.2.3 weight 5
route add unreachable 10.2.0.0/16
route add blackhole 10.3.0.0/16 metric 7
route add prohibit 10.4.0.0/16
route add throw 10.5.0.0/16 table 5142 proto 142
route add 10.6.0.0/16 dev up0 mtu 1300 table 5142 proto 142 src 192.0.2.1
route add 10.7.0.0/16 dev up0 table 5142 proto 143
route add 10.8.0.0/16 via inet6 2001:db8::2 dev up0
route add local 10.10.0.0/16 dev lo table local proto 142
route add 2001:db8:1::/48 via 2001:db8::2 dev up0 proto 142 mtu 1290 table 5142
route add unreachable 2001:db8:2::/48 table 5142 proto 142
route add 2001:db8:3::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::3
route add local 2001:db8:4::/64 dev lo table local proto 142
rule add preference 5142 not fwmark 0x2000/0x2000 lookup 5142 protocol 142
rule add preference 5141 iif up0 lookup 5143 protocol 142
rule add preference 5141 iif lo ipproto udp dport 4789 lookup 5143 protocol 142
rule add preference 5141 ipproto tcp sport 80-90 lookup 300
rule add preference 100 fwmark 7 unreachable
rule add from 192.0.2.0/24 lookup 4000000000
`

// Without link-local addresses, which the kernel would add at a time of its own (RFC 4862, section 5.4).
writeFileSync('/proc/sys/net/ipv6/conf/default/addr_gen_mode', '1')
execFileSync('ip', ['-batch', '-'], { input: NETWORK })
execFileSync('ip', ['-6', '-batch', '-'], {
  input: 'rule add preference 5142 not fwmark 0x2000/0x2000 lookup 5142 protocol 142\n'
})
const routes = Array.from(
  { length: MANY },
  (_, n) => `route add 10.20.${n >> 8}.${n & 255}/32 dev up0 table 9\n`
)
execFileSync('ip', ['-batch', '-'], { input: routes.join('') })
const links = Array.from({ length: 200 }, (_, n) => `link add port${n} type veth peer name far${n}\n`)
execFileSync('ip', ['-batch', '-'], { input: links.join('') })
execFileSync('wireguard-go', [device], { stdio: 'ignore' })
const allowed = Array.from({ length: MANY }, (_, n) => `10.30.${n >> 8}.${n & 255}/32`).join()
const folder = mkdtempSync(join(tmpdir(), 'rhizome-read-'))
writeFileSync(
  join(folder, 'conf'),
  `[Interface]\nPrivateKey = ${Buffer.alloc(32, 3).toString('base64')}\nListenPort = 4711\nFwMark = 0x2000
[Peer]\nPublicKey = ${PEER}\nAllowedIPs = 10.0.0.0/8,fd00::/8\nEndpoint = 192.0.2.7:99\nPersistentKeepalive = 25
[Peer]\nPublicKey = ${OTHER}\nEndpoint = [2001:db8::7]:99\nAllowedIPs = ${allowed}\n`
)
execFileSync('wg', ['setconf', device, join(folder, 'conf')])
rmSync(folder, { recursive: true })
// Counters of the filter, and counters of the same names in tables that are not the filter's.
const counted = (family: string, table: string, packets: number) => `table ${family} ${table} {
  counter dropped-service { packets ${packets} bytes 1 }
  counter dropped-remote { packets 0 bytes 0 }
  counter dropped-local { packets 0 bytes 0 }
  set from-service4 { type ipv4_addr . ifname; flags timeout; elements = { 192.0.2.9 . "up0" timeout 2h } }
  set from-service6 { type ipv6_addr . ifname; flags timeout; }
}\n`
execFileSync('nft', ['-f', '-'], {
  input: [
    counted('inet', 'rhizome-filter', 5_000_000_000),
    counted('inet', 'rhizome-filter2', 6),
    counted('ip', 'rhizome-filter', 7)
  ].join('')
})

const kernel = createRun()
// The same, without the readings of the kernel.
const tool: Run = (name, args, options) => kernel(name, args, options)
const signal = AbortSignal.timeout(60_000)
const both = async (read: (run: Run) => Promise<unknown>) => [await read(kernel), await read(tool)]
const tables = ['main', 'local', 5142, 9, 4711, 4_000_000_000] as const
const dump = async () => parseWgDump((await tool('wg', ['show', device, 'dump'])).stdout)
const reads = openKernelReads()
const still = (found: WgDump | undefined) =>
  found && { ...found, peers: found.peers.map((peer) => ({ ...peer, txBytes: 0 })) }
console.log(
  JSON.stringify({
    links: await both((run) => readLinks(run, signal)),
    ...Object.fromEntries(
      await Promise.all(
        ['lo', 'br0', 'veth1', 'up0', 'a-long-name-of-more-than-fifteen', device, 'none0'].map(
          async (name) => [
            `link ${name}`,
            await both(async (run) => (await findLink(run, name, signal)) ?? null)
          ]
        )
      )
    ),
    ...Object.fromEntries(
      await Promise.all(
        tables.flatMap((table) =>
          ([4, 6] as const).flatMap((family) =>
            [undefined, 142].map(async (protocol) => [
              `routes ${table} ${family} ${protocol}`,
              await both((run) => readRoutes(run, { family, table, ...(protocol && { protocol }) }, signal))
            ])
          )
        )
      )
    ),
    'rules 4': await both((run) => readRules(run, 4, signal)),
    'rules 6': await both((run) => readRules(run, 6, signal)),
    // The device tries handshakes, so its counters grow between the two readings.
    wireguard: [still(await reads.wireguardGo(socketOf(device))), still(await dump())],
    dropped: await both((run) => readDropped(run, 'rhizome-filter', signal)),
    counters: [
      [...((await reads.counters('rhizome-filter')) ?? [])],
      Object.entries({ service: 5_000_000_000, remote: 0, local: 0 }).map(([reason, packets]) => [
        `dropped-${reason}`,
        packets
      ])
    ],
    'counters of no table': [(await reads.counters('none'))?.size, 0],
    isWhole: [
      [await reads.links(), await reads.routes({ family: 4, table: 9 }), await reads.rules(6)].every(
        Array.isArray
      ),
      true
    ]
  })
)
