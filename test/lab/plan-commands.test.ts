// What a plan prints is what runs: each tool is replaced by one that writes down its arguments and its input, and then runs the real one.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HostOp, HostState } from '../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../src/core/host/normalize.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../src/core/model/values.ts'
import { plan } from '../../src/core/host/plan.ts'
import { Lab } from './support/netns.ts'
import { remoteHost, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

describe('the commands of a plan', function () {
  let lab: Lab
  let folder: string
  let host: RemoteHost
  let device: string
  const keys = keyPair()

  before(async function () {
    requireLab(this)
    lab = await Lab.create('plan-commands.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-commands-'))
    mkdirSync(join(folder, 'bin'))
    for (const tool of ['ip', 'wg', 'nft', 'wireguard-go']) {
      // /dev/stdin may be a file or a pipe; what reads it is written down first.
      const script = `#!/bin/sh
PATH=\${PATH#*:}
echo "$ ${tool} $*" >> ${folder}/log
case "$*" in
  *private-key*) exec ${tool} "$@" ;;
  *-batch*|*/dev/stdin*|"-f -"*) cat > ${folder}/input; cat ${folder}/input >> ${folder}/log; exec ${tool} "$@" < ${folder}/input ;;
esac
exec ${tool} "$@"
`
      writeFileSync(join(folder, 'bin', tool), script, { mode: 0o755 })
    }
    device = lab.device('c')
    const path = `${join(folder, 'bin')}:${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`
    const namespace = await lab.namespace('one')
    host = remoteHost(namespace, {
      device,
      privateKey: keys.privateKey,
      stateFolder: join(folder, 'state'),
      env: { PATH: path }
    })
    await host.start()
  })

  after(async () => {
    await lab?.close()
    if (folder !== undefined) rmSync(folder, { recursive: true })
  })

  const full = (): HostState => ({
    ...EMPTY_HOST,
    tunnel: { device, listenPort: 51820, mtu: 1400, publicKey: keys.publicKey },
    peers: [
      {
        publicKey: keyPair().publicKey,
        peerAddress: '192.0.2.7:51820' as PeerAddress,
        allowedIps: ['10.2.0.0/16' as Cidr],
        keepaliveSeconds: 15
      }
    ],
    routes: [
      { destination: '10.2.0.0/16' as Cidr, source: undefined },
      { destination: '10.2.9.0/24' as Cidr, source: undefined, kind: 'throw' }
    ],
    vips: [{ destination: '10.92.0.0/16' as Cidr, source: undefined }],
    filter: {
      remoteSources: ['10.2.0.0/16' as Cidr],
      localDestinations: ['10.1.0.0/16' as Cidr],
      probePort: 4000,
      mtu: 1400,
      guardedVips: ['10.92.0.0/16' as Cidr]
    },
    virtualServers: [
      {
        vip: '10.92.0.10' as Ip,
        protocol: 'TCP',
        port: 80,
        scheduler: 'rr',
        affinitySeconds: 0,
        realServers: [{ ip: '10.2.0.11' as Ip, port: 8080, weight: 1 }]
      }
    ],
    sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
  })

  /** Lines of a described command as they reach the tools: routes are lines of a batch, the rest is argument lists and input. */
  function linesOf(command: string): readonly string[] {
    const [first = '', ...input] = command.split('\n')
    if (first.startsWith('#') || first.startsWith('echo ')) return []
    const route = /^ip (route (?:replace|delete) .*)$/.exec(first)
    if (route !== null) return [route[1] ?? '']
    const line = `$ ${first.replace(/ (<<'END'|< PRIVATE-KEY)$/, '')}`
    return [line, ...input.filter((text) => text !== 'END' && text.trim() !== '')]
  }

  async function ran(ops: readonly HostOp[]): Promise<ReadonlySet<string>> {
    writeFileSync(join(folder, 'log'), '')
    assert.deepEqual((await host.edge.apply(ops, new AbortController().signal)).length, 0)
    return new Set(readFileSync(join(folder, 'log'), 'utf8').split('\n'))
  }

  it('are the ones that run, for what is set and for what is removed', async () => {
    const want = full()
    for (const [goal, have] of [
      [want, EMPTY_HOST],
      [EMPTY_HOST, want]
    ] as const) {
      await host.observe()
      for (const op of plan(goal, have)) {
        const isBalanced = op.kind === 'setVirtualServer' || op.kind === 'removeVirtualServer'
        const described = await host.describe(op)
        assert.ok(described.length > 0, op.kind)
        const log = await ran([op])
        // A change of the load balancer goes to the kernel as one message, without a tool, where that can be.
        if (isBalanced) continue
        for (const line of described.flatMap(linesOf))
          assert.ok(log.has(line), `${op.kind}: not run: ${line}\n${[...log].join('\n')}`)
      }
    }
  })

  it('show no secret', async () => {
    for (const op of plan(full(), EMPTY_HOST))
      assert.ok(!(await host.describe(op)).join('\n').includes(keys.privateKey), op.kind)
  })

  it('say a sysctl as the file that is written', async () => {
    const described = await host.describe({
      kind: 'setSysctl',
      sysctl: { name: 'net.ipv4.ip_forward', value: '1' }
    })
    assert.deepEqual(described, ['echo 1 > /proc/sys/net/ipv4/ip_forward'])
  })
})

function keyPair(): { readonly privateKey: string; readonly publicKey: WireguardKey } {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32).toString('base64'),
    publicKey: publicKey
      .export({ type: 'spki', format: 'der' })
      .subarray(-32)
      .toString('base64') as WireguardKey
  }
}
