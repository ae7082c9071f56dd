// Completion as the shell does it: bash loads the script and completes; the other shells get the same candidates.
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MESHCTL } from '../../built.ts'
import { meshctl, run, startFakeMeshd, type FakeMeshd } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

describe('meshctl completion', () => {
  let fake: FakeMeshd
  let bin: string

  before(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/peers', samples.PEERS_IN_TROUBLE)
    fake.answer('/v1/services', samples.SERVICES)
    fake.answer('/v1/dns', samples.ZONES)
    // A slow machine takes longer than the 500 ms for which a person at the Tab key waits.
    bin = join(fake.folder, 'bin')
    mkdirSync(bin)
    writeFileSync(
      join(bin, 'meshctl'),
      `#!/bin/sh\nexec '${process.execPath}' '${MESHCTL}' --timeout 1m "$@"\n`
    )
    chmodSync(join(bin, 'meshctl'), 0o755)
    writeFileSync(join(fake.folder, 'east.token'), 'rhz1.abc')
  })
  after(() => fake.stop())

  /** What bash offers when Tab is pressed after `words`, split as bash splits them; the last may be begun. */
  async function bash(...words: string[]): Promise<string[]> {
    const script = `
      source <(meshctl completion bash)
      complete -p meshctl | grep -q _meshctl || exit 9
      COMP_WORDS=(meshctl "$@") COMP_CWORD=$#
      _meshctl
      printf '%s\\n' "\${COMPREPLY[@]}"`
    const env = { PATH: `${bin}:${process.env['PATH']}`, RHIZOME_SOCKET: fake.socket }
    const result = await run('bash', ['--norc', '-c', script, 'bash', ...words], { env })
    assert.deepEqual({ code: result.code, stderr: result.stderr }, { code: 0, stderr: '' })
    return result.stdout.split('\n').filter((line) => line !== '')
  }

  it('bash: the script has no syntax error', async () => {
    const { stdout } = await meshctl(['completion', 'bash'])
    assert.deepEqual(await run('bash', ['-n'], { stdin: stdout }), { code: 0, stdout: '', stderr: '' })
  })

  it('bash: completes commands', async () => {
    assert.deepEqual(await bash('s'), ['status', 'services'])
    assert.ok((await bash('')).includes('join'))
    assert.ok(!(await bash('')).includes('__complete'))
    assert.deepEqual(await bash('help', 'pe'), ['peers'])
  })

  it('bash: completes flags of the command, and those that all commands have', async () => {
    assert.deepEqual(await bash('invite', '--p'), ['--pod-cidr'])
    assert.deepEqual(await bash('--so'), ['--socket'])
    assert.deepEqual(await bash('peers', '--so'), ['--socket'])
  })

  it('bash: completes names of clusters and namespaces from meshd', async () => {
    assert.deepEqual(await bash('services', '--cluster', ''), ['east', 'edge', 'west'])
    assert.deepEqual(await bash('peers', '--cluster', 'e'), ['east', 'edge'])
    assert.deepEqual(await bash('services', '-n', ''), ['data', 'shop'])
    assert.deepEqual(await bash('invite', 'east', '--replace', 'e'), ['east', 'edge'])
    assert.deepEqual(await bash('invite', 'east', '--replace', '--fo'), ['--force'])
  })

  it('bash: completes a value behind =, which bash splits off', async () => {
    assert.deepEqual(await bash('services', '--cluster', '=', 'w'), ['west'])
    assert.deepEqual(await bash('services', '--cluster', '='), ['east', 'edge', 'west'])
  })

  it('bash: completes DNS names, record types and shells', async () => {
    assert.deepEqual(await bash('dns', 'web'), ['web.shop.svc.cluster.east'])
    assert.deepEqual(await bash('dns', 'cluster.'), ['cluster.all', 'cluster.edge'])
    assert.deepEqual(await bash('why', 'web'), ['web.shop.svc.cluster.east'])
    assert.deepEqual(await bash('ping', ''), ['east', 'edge'])
    assert.deepEqual(await bash('ping', 'east', '--co'), ['--count'])
    assert.deepEqual(await bash('verify', ''), ['east', 'edge'])
    assert.deepEqual(await bash('dns', 'x', '--type', 'A'), ['A', 'AAAA'])
    assert.deepEqual(await bash('completion', 'z'), ['zsh'])
    assert.deepEqual(await bash('peers', '-o', ''), ['table', 'wide', 'json', 'yaml', 'name'])
  })

  it('bash: completes files where a file is wanted', async () => {
    assert.deepEqual(await bash('join', '--token-file', join(fake.folder, 'east')), [
      join(fake.folder, 'east.token')
    ])
  })

  it('bash: a name for a new cluster is not made up', async () => {
    assert.deepEqual(await bash('init', '--cluster', ''), [])
    assert.deepEqual(await bash('invite', ''), ['create', 'list', 'cancel', 'help'])
    assert.deepEqual(await bash('invite', 'new', '--bootstrap', 'w'), ['west'])
  })

  it('without meshd there are no names, and no error', async () => {
    const args = ['--socket', join(fake.folder, 'none.sock'), '__complete', '--', 'services', '--cluster', '']
    assert.deepEqual(await meshctl(args), { code: 0, stdout: '', stderr: '' })
  })

  it('a socket on the line is the one that is asked', async () => {
    const words = ['--socket', fake.socket, 'peers', '--cluster=w']
    assert.equal(
      (await meshctl(['--timeout', '1m', '__complete', '--', ...words])).stdout,
      '--cluster=west\n'
    )
  })

  it('gives zsh and fish descriptions behind a tab', async () => {
    const { stdout } = await meshctl(['__complete', '--', 'rou'])
    assert.equal(stdout, 'routes\tthe prefixes of all clusters, and how this host routes them\n')
  })

  it('never passes a control character from meshd on to the shell', async () => {
    const [peer] = samples.PEERS.peers
    fake.answer('/v1/peers', { peers: [{ ...peer, cluster: 'x\u001b[31m\ny' }] })
    const { stdout } = await meshctl([
      '--socket',
      fake.socket,
      '--timeout',
      '1m',
      '__complete',
      '--',
      'peers',
      '--cluster',
      ''
    ])
    assert.equal(stdout, 'x\\x1b[31m\\x0ay\n')
  })
})
