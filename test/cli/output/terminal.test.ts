/* eslint-disable no-control-regex -- control characters are what it is for */
// What reaches the terminal: colours, redraws and questions on a real one (a pty from script(1)); nothing that steers it, ever.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { API_VERSION } from '../../../src/api/answers.ts'
import { MESHCTL } from '../../built.ts'
import { meshctl, run, startFakeMeshd, type FakeMeshd, type Run, type RunOptions } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

const CTRL_C = '\u0003'

describe('meshctl and the terminal', () => {
  let fake: FakeMeshd

  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())

  const cli = (...args: string[]): Promise<Run> => meshctl(['--socket', fake.socket, ...args])

  /** On a pty; `answer` gets what was shown so far and may type, once. stdout and stderr come as one. */
  function onTerminal(
    args: readonly string[],
    answer: (shown: string, type: (text: string) => void) => void = () => {},
    env: Readonly<Record<string, string>> = {}
  ): Promise<Run> {
    const line = [process.execPath, MESHCTL, '--socket', fake.socket, ...args]
      .map((word) => `'${word}'`)
      .join(' ')
    let shown = ''
    let typed = false
    const onSpawn = (child: ChildProcess): void => {
      const { stdin, stdout } = child
      // Ending stdin would end the pty before the command has run.
      if (stdin !== null) stdin.end = () => stdin
      stdout?.on('data', (chunk: Buffer) => {
        shown += chunk.toString()
        // What is typed is echoed, and so shown again.
        if (!typed) answer(shown, (text) => (typed = stdin?.write(text) !== undefined))
      })
    }
    const options: RunOptions = { env: { SHELL: '/bin/sh', ...env }, onSpawn }
    return run('script', ['-qec', `stty cols 200 rows 12; exec ${line}`, '/dev/null'], options)
  }

  it('colours states on a terminal, and nowhere else', async () => {
    fake.answer('/v1/peers', samples.PEERS_IN_TROUBLE)
    assert.match((await onTerminal(['peers'])).stdout, /\u001b\[32mup\u001b\[39m [^]*\u001b\[31mdown\u001b/)
    assert.doesNotMatch((await cli('peers')).stdout, /\u001b/)
    assert.doesNotMatch((await onTerminal(['peers', '--no-color'])).stdout, /\u001b/)
    assert.doesNotMatch((await onTerminal(['peers'], undefined, { NO_COLOR: '1' })).stdout, /\u001b/)
    assert.match((await onTerminal(['peers'], undefined, { NO_COLOR: '' })).stdout, /\u001b/)
  })

  it('colours do not move the columns', async () => {
    fake.answer('/v1/peers', samples.PEERS_IN_TROUBLE)
    const { stdout } = await onTerminal(['peers'])
    const plain = stdout.replaceAll('\r', '').replaceAll(/\u001b\[\d+m/g, '')
    assert.equal(plain, (await cli('peers')).stdout)
  })

  it('--watch redraws in place, and Ctrl-C gives the terminal back', async () => {
    let asked = 0
    fake.handle('/v1/peers', (response) => {
      asked++
      const body = asked === 2 ? { error: { code: 'INTERNAL', message: 'busy' } } : samples.PEERS
      response.statusCode = asked === 2 ? 500 : 200
      response.end(JSON.stringify({ apiVersion: API_VERSION, ...body }))
    })
    const { code, stdout } = await onTerminal(['peers', '--watch', '0.2'], (shown, type) => {
      if (shown.split('CLUSTER').length > 2) type(CTRL_C)
    })
    assert.equal(code, 0)
    assert.ok(stdout.startsWith('\u001b[?25l\u001b[?7l\u001b[H\u001b[2J\u001b[H'), 'hides the cursor, clears')
    assert.match(stdout, /error: busy\u001b\[K/, 'a failure in between is shown and passes')
    assert.ok(stdout.replace('^C', '').endsWith('\u001b[?7h\u001b[?25h'), 'shows the cursor again')
  })

  it('--watch does not scroll away what does not fit', async () => {
    const [service] = samples.SERVICES.services
    fake.answer('/v1/services', { services: Array.from({ length: 100 }, () => service) })
    const { stdout } = await onTerminal(['services', '-w'], (shown, type) => {
      if (shown.includes('more lines')) type(CTRL_C)
    })
    assert.match(stdout, /… 93 more lines: see them without --watch/)
  })

  it('--watch into a pipe prints one view after another, with --json one line each', async () => {
    fake.answer('/v1/routes', samples.ROUTES)
    const watch = (args: string[], enough: RegExp): Promise<Run> =>
      meshctl(['--socket', fake.socket, 'routes', '--watch', '0.2', ...args], {
        onSpawn: (child) => {
          let shown = ''
          child.stdout?.on('data', (chunk: Buffer) => {
            shown += chunk.toString()
            if (enough.test(shown)) child.kill('SIGINT')
          })
        }
      })
    const text = await watch([], /DESTINATION[^]*\n\nDESTINATION[^]*east has/)
    assert.equal(text.code, 0)
    assert.doesNotMatch(text.stdout, /\u001b/)
    const lines = await watch(['--json'], /\n.*\n/)
    assert.equal(lines.code, 0)
    for (const line of lines.stdout.trimEnd().split('\n')) {
      assert.deepEqual(JSON.parse(line), { apiVersion: API_VERSION, ...samples.ROUTES })
    }
  })

  it('leave asks, and changes nothing unless the reply is yes', async () => {
    fake.answer('/v1/status', samples.STATUS)
    fake.answer('/v1/leave', { cluster: 'west' })
    const left = (): number => fake.requests.filter(({ url }) => url === '/v1/leave').length
    const reply = (text: string): Promise<Run> =>
      onTerminal(['leave'], (shown, type) => {
        if (shown.includes('[y/N]')) type(text)
      })
    for (const text of ['\r', 'n\r', CTRL_C]) {
      const { code, stdout } = await reply(text)
      assert.equal(code, 130, stdout)
      assert.match(stdout, /nothing was changed/)
    }
    assert.equal(left(), 0)
    const { code, stdout } = await reply('y\r')
    assert.equal(code, 0)
    assert.match(stdout, /Cluster west leaves the mesh: no other cluster reaches its services any more/)
    assert.match(stdout, /Cluster west has left the mesh\./)
    assert.equal(left(), 1)
  })

  it('Ctrl-C while waiting leaves a clean line', async () => {
    fake.handle('/v1/join', () => {})
    const { code, stdout } = await onTerminal(['join', 'rhz1.abc'], (shown, type) => {
      if (shown.includes('of at most 1m')) type(CTRL_C)
    })
    assert.equal(code, 130)
    assert.match(stdout, /accept this cluster … 1s of at most 1m\u001b\[K[^\n]*\r\u001b\[K$/)
  })

  it('a closed pipe (| head) is no error', async () => {
    const [service] = samples.SERVICES.services
    fake.answer('/v1/services', { services: Array.from({ length: 20_000 }, () => service) })
    const pipe = `set -o pipefail; "$0" "$@" | head -n 1`
    const result = await run('bash', [
      '-c',
      pipe,
      process.execPath,
      MESHCTL,
      '--socket',
      fake.socket,
      'services'
    ])
    assert.equal(result.code, 0)
    assert.equal(result.stderr, '')
    assert.match(result.stdout, /^CLUSTER .*\n$/)
  })

  it('no string of a peer steers the terminal, in no view, error or JSON', async () => {
    const evil = '\u001b]0;owned\u0007\u009b31m\r\n\u202e\u200b\u{e0041}\ud800'
    const [peer] = samples.PEERS.peers
    const [service] = samples.SERVICES.services
    const [route] = samples.ROUTES.routes
    fake.answer('/v1/peers', { peers: [{ ...peer, cluster: evil, reason: evil, cidrs: [evil] }] })
    fake.answer('/v1/services', { services: [{ ...service, name: evil, ports: [evil] }] })
    fake.answer('/v1/routes', { routes: [{ ...route, reason: evil }] })
    fake.answer('/v1/status', { ...samples.STATUS, refused: { [evil]: 1 }, warnings: [evil] })
    fake.answer('/v1/dns', { zones: [{ zone: evil, state: 'serving', names: 1 }] })
    fake.answer('/v1/plan', {
      inStep: false,
      steps: [{ op: { kind: evil }, commands: [`ip ${evil}`] }]
    })
    fake.answer('/v1/why', {
      ...samples.WHY,
      stops: [{ stop: 'name', state: 'fault', text: evil, fix: evil }]
    })
    fake.answer('/v1/ping', {
      ...samples.PING,
      gateways: [{ ...samples.PING.gateways[0], node: evil, reason: evil, fix: evil }]
    })
    fake.answer('/v1/doctor', {
      ...samples.DOCTOR,
      findings: [{ ...samples.DOCTOR.findings[0], text: evil, subject: evil }]
    })
    fake.answer('/v1/events', { events: [{ ...samples.EVENTS.events[0], reason: evil, cluster: evil }] })
    fake.answer('/v1/invite', { ...samples.INVITE, bootstrap: [evil] })
    fake.fail('/v1/join', 400, { code: evil, message: evil, fix: evil })
    const lines = [
      'peers',
      'services',
      'routes',
      'status',
      'dns',
      'why x',
      'ping east',
      'verify',
      'doctor',
      'events',
      'plan',
      'invite east',
      'join abc'
    ]
    const shown = await Promise.all(
      lines.flatMap((line) => [cli(...line.split(' ')), cli(...line.split(' '), '--json')])
    )
    for (const { stdout, stderr } of shown) {
      assert.doesNotMatch(
        stdout + stderr,
        /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e\u200b]|[\u{e0000}-\u{e007f}]/u
      )
      assert.match(stdout + stderr, /\\(x1b|u001b)/)
    }
    const [, json] = shown
    assert.equal(JSON.parse(json?.stdout ?? '').peers[0].cluster, evil, 'the JSON value is exact')
  })
})
