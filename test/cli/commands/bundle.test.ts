// `meshctl bundle` beside a real agent whose secrets are all in its log, beside a fake one, and without one. Tools are
// programs of the test, so that no root and no tunnel are needed, and what they are asked is known.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { InviteAnswer } from '../../../src/api/membership-answers.ts'
import type { Contents } from '../../../src/cli/bundle/gather.ts'
import { startAgent, type Agent } from '../../../src/app/agent/agent.ts'
import { createLog } from '../../../src/app/observe/log.ts'
import { LogRing } from '../../../src/app/observe/log-ring.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import { wireguardPrivateKey } from '../../../src/io/crypto/crypto.ts'
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'
import { meshctl, startFakeMeshd, type Run } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

const PRIVATE = Buffer.alloc(32, 'a private key of wireguard').toString('base64')
const PUBLIC = Buffer.alloc(32, 'the public key of a peer').toString('base64')

describe('meshctl bundle', () => {
  let folder: string
  let socket: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-bundle-'))
    socket = join(folder, 's')
    mkdirSync(join(folder, 'bin'))
    // It has a private key for those who ask for one, as the real `wg` does.
    tool(
      'wg',
      `case "$3" in public-key|peers) echo '${PUBLIC}';; allowed-ips) echo '${PUBLIC}	10.2.0.0/16';;
      listen-port|fwmark|endpoints|latest-handshakes|transfer|persistent-keepalive) echo "$3 of $2";;
      *) echo 'private key: ${PRIVATE}'; echo '${PRIVATE}';; esac`
    )
    for (const name of ['ip', 'nft', 'ipvsadm', 'journalctl']) tool(name, `echo "${name} $*"`)
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  function tool(name: string, script: string): void {
    const path = join(folder, 'bin', name)
    writeFileSync(path, `#!/bin/sh\necho "${name} $*" >> ${join(folder, 'asked')}\n${script}\n`)
    chmodSync(path, 0o755)
  }

  const bundle = (...args: readonly string[]): Promise<Run> =>
    meshctl(['--socket', socket, 'bundle', ...args], {
      env: { PATH: [join(folder, 'bin'), process.env['PATH']].join(delimiter) }
    })

  /** Unpacks the archive and returns the folder in it. */
  function unpack(file: string): string {
    const out = mkdtempSync(join(folder, 'out-'))
    execFileSync('tar', ['-xzf', file, '-C', out])
    const [only = ''] = readdirSync(out)
    return join(out, only)
  }

  const contentsOf = (unpacked: string): Contents =>
    JSON.parse(readFileSync(join(unpacked, 'contents.json'), 'utf8'))

  it('has no secret of an agent, though its log has them all in many forms, and keeps what is public', async () => {
    const lines = new LogRing()
    const log = createLog({ 'log-level': 'silent' as 'error', 'log-format': 'json' }, lines)
    const state = join(folder, 'state')
    const agent = await start(state, log, lines)
    try {
      await ask(
        'init',
        '--cluster',
        'west',
        '--pod-cidr',
        '10.1.0.0/16',
        '--service-cidr',
        '10.101.0.0/16',
        '--roots',
        '2of3'
      )
      const prefixes = ['--pod-cidr', '10.2.0.0/16', '--service-cidr', '10.102.0.0/16']
      const { token } = JSON.parse(await ask('invite', 'east', ...prefixes)) as InviteAnswer
      const identity = readFileSync(join(state, 'identity.json'), 'utf8')
      const seeds = secretsOf(JSON.parse(identity))
      // The agent, the tunnel, the cluster, three roots, the administrator.
      assert.equal(seeds.length, 7)
      const { tunnelSeed } = (JSON.parse(identity) as { identity: { tunnelSeed: string } }).identity
      const tunnel = Buffer.from(wireguardPrivateKey(Buffer.from(tunnelSeed, 'base64'))).toString('base64')
      const secrets = [...seeds, tunnel]
      for (const secret of [token, identity, ...secrets.flatMap(formsOf)])
        lines.write(`${JSON.stringify({ level: 'warn', msg: `a fault that quotes ${secret}` })}\n`)
      const file = join(folder, 'west.tar.gz')
      const run = await bundle(file)
      assert.equal(run.code, 0, run.stderr)
      assert.equal(statSync(file).mode & 0o777, 0o600)
      const unpacked = unpack(file)
      const texts = textsBelow(unpacked)
      for (const secret of [token, PRIVATE, ...secrets.flatMap(formsOf)])
        for (const [name, text] of [...texts, ['the output', run.stdout] as const])
          assert.ok(!text.includes(secret) && !text.includes(secret.slice(0, 20)), `${name} has a secret`)
      const status = JSON.parse(texts.get('agent/status.json') ?? '') as Record<string, string>
      assert.match(status['peerId'] ?? '', /^12D3KooW\w{44}$/)
      assert.match(status['wireguardKey'] ?? '', /^[\w+/]{43}=$/)
      assert.match(
        texts.get('host/wireguard.txt') ?? '',
        new RegExp(`\\$ wg show \\S+ allowed-ips\\n${RegExp.escape(PUBLIC)}\t10\\.2`)
      )
      assert.match(texts.get('agent/settings.json') ?? '', new RegExp(`"state-dir": "${state}"`))
      assert.match(texts.get('agent/log.txt') ?? '', /a fault that quotes \[removed\]/)
      assert.match(texts.get('agent/metrics.txt') ?? '', /^rhizome_build_info\{/m)
      assert.match(texts.get('host/state-folder.txt') ?? '', /^0600 \d+ \d+ \S+ identity\.json$/m)
      assert.match(texts.get('host/nftables.txt') ?? '', /^nft list table inet rhizome-filter$/m)
      for (const name of ['peers', 'services', 'routes', 'events', 'doctor', 'trust', 'plan'])
        assert.ok(texts.has(`agent/${name}.json`), name)
    } finally {
      await agent.stop()
    }
    assert.doesNotMatch(readFileSync(join(folder, 'asked'), 'utf8'), /private|preshared|dump|showconf/)
  })

  it('has the host alone where no agent answers, and says so', async () => {
    const file = join(folder, 'x.tar.gz')
    mkdirSync(join(folder, 'state'))
    writeFileSync(join(folder, 'state', 'identity.json'), JSON.stringify({ nodeSeed: PRIVATE }))
    const run = await bundle(file, '--state-dir', join(folder, 'state'), '--device', 'mesh7')
    assert.equal(run.code, 0, run.stderr)
    assert.match(
      run.stdout,
      /^It has nothing of the agent: cannot reach meshd on .*: there is no such socket/m
    )
    assert.match(run.stdout, /^ {2}- agent\/status\.json, .*: cannot reach meshd/m)
    const unpacked = unpack(file)
    const texts = textsBelow(unpacked)
    assert.match(texts.get('host/wireguard.txt') ?? '', /endpoints of mesh7/)
    assert.match(texts.get('host/state-folder.txt') ?? '', /identity\.json/)
    for (const [name, text] of texts) assert.ok(!text.includes(PRIVATE), name)
    assert.deepEqual(
      contentsOf(unpacked)
        .missing.map(({ name }) => name)
        .filter((name) => !name.startsWith('agent/')),
      []
    )
  })

  it('names what a tool that is missing or fails would have said', async () => {
    tool('nft', 'echo "no such table" >&2; exit 1')
    rmSync(join(folder, 'bin/ipvsadm'))
    const file = join(folder, 'x.tar.gz')
    const { stdout } = await meshctl(['--socket', socket, 'bundle', file, '-o', 'json'], {
      env: { PATH: join(folder, 'bin') }
    })
    const { missing } = JSON.parse(stdout) as Contents
    const reasons = new Map(missing.map(({ name, reason }) => [name, reason]))
    assert.equal(reasons.get('host/nftables.txt'), 'nft failed: no such table')
    assert.equal(reasons.get('host/ipvs.txt'), 'ipvsadm is not installed')
  })

  it('has what a busy agent refuses as missing, writes to standard output, and overwrites nothing', async () => {
    const fake = await startFakeMeshd()
    try {
      ;({ socket } = fake)
      fake.answer('/v1/status', { ...samples.STATUS, cluster: '../../etc' })
      fake.fail('/v1/peers', 409, { code: 'NOT_JOINED', message: 'in no mesh' })
      const toFile = await bundle('-', '--json')
      assert.equal(toFile.code, 0, toFile.stderr)
      const answer = JSON.parse(toFile.stderr) as Contents & { readonly agentError?: string }
      assert.equal(answer.agentError, undefined)
      assert.deepEqual(answer.missing.find(({ name }) => name === 'agent/peers.json')?.reason, 'in no mesh')
      const file = join(folder, 'taken')
      writeFileSync(file, 'mine')
      const taken = await bundle(file)
      assert.equal(taken.code, 2)
      assert.match(taken.stderr, /^error: file: .*taken exists, and is not overwritten\n {2}fix: name a file/)
      assert.equal(readFileSync(file, 'utf8'), 'mine')
      assert.ok(!existsSync('/etc.tar.gz'))
    } finally {
      await fake.stop()
    }
  })

  async function ask(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await meshctl(['--socket', socket, ...args, '--json'])
    assert.equal(code, 0, stderr)
    return stdout
  }

  function start(state: string, log: ReturnType<typeof createLog>, lines: LogRing): Promise<Agent> {
    const flags = {
      'state-dir': state,
      socket,
      manifests: join(folder, 'manifests'),
      source: 'folder',
      dataplane: 'off',
      listen: '/ip4/127.0.0.1/tcp/0',
      announce: '/ip4/192.0.2.1/tcp/7946',
      'probe-port': '0',
      'dns-listen': 'off',
      'http-listen': 'off',
      'feed-listen': 'off'
    }
    return startAgent(resolveSettings({ flags, env: {}, file: undefined }), log, lines)
  }
})

/** The values of all fields of the identity file whose names say that they are seeds, in base64. */
function secretsOf(value: unknown, key = ''): readonly string[] {
  if (typeof value === 'string') return /seed/i.test(key) ? [value] : []
  if (Array.isArray(value)) return value.flatMap((inner) => secretsOf(inner, key))
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => secretsOf(inner, name))
}

/** A secret as it may be written. */
function formsOf(base64: string): readonly string[] {
  const bytes = Buffer.from(base64, 'base64')
  return [
    base64,
    bytes.toString('base64url'),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    base32.encoder.baseEncode(bytes),
    base58btc.encoder.baseEncode(bytes),
    [...bytes].join(','),
    JSON.stringify(new Uint8Array(bytes))
  ]
}

/** The texts of all files below a folder, by their paths in it. */
function textsBelow(folder: string): ReadonlyMap<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return new Map(
    names
      .filter((name) => statSync(join(folder, name)).isFile())
      .map((name) => [name, readFileSync(join(folder, name), 'utf8')])
  )
}
