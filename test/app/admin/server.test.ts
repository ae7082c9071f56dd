import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { AdminSocket } from '../../../src/app/admin/socket.ts'
import { startAdmin, type AdminHandlers } from '../../../src/app/admin/server.ts'
import { ENDPOINTS } from '../../../src/api/endpoints.ts'
import { API_VERSION } from '../../../src/api/answers.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { eventually } from '../../eventually.ts'

describe('the admin socket', () => {
  let folder = ''
  let admin: AdminSocket | undefined
  let health = someHealth()
  let socket = ''

  beforeEach(() => {
    health = someHealth()
    folder = mkdtempSync(join(tmpdir(), 'admin-'))
    socket = join(folder, 'sub/meshd.sock')
  })

  afterEach(async () => {
    await admin?.stop()
    admin = undefined
    rmSync(folder, { recursive: true })
  })

  const open = async (): Promise<void> => {
    admin = await startAdmin({ socket, handlers, log: pino({ enabled: false }), health })
  }

  it('is open to its owner alone', async () => {
    await open()
    assert.equal(statSync(socket).mode & 0o777, 0o600)
  })

  it('takes the place of a dead agent’s, and refuses that of a living one', async () => {
    await open()
    await assert.rejects(open(), { code: 'SOCKET_IN_USE', message: new RegExp(socket) })
    await admin?.stop()
    dead(socket)
    dead(`${socket}.new`)
    await open()
    assert.equal((await ask('GET', '/v1/status')).status, 200)
  })

  const kept: readonly (readonly [what: string, make: (path: string) => void, shown: RegExp])[] = [
    ['a file', (path) => writeFileSync(path, 'notes'), /is a file, not a socket/],
    ['an empty file', (path) => writeFileSync(path, ''), /is a file, not a socket/],
    ['a folder', (path) => mkdirSync(path), /is a folder, not a socket/],
    ['a link', (path) => symlinkSync('/dev/null', path), /is a link, not a socket/]
  ]
  for (const [what, make, shown] of kept) {
    it(`refuses ${what} at its path, and leaves it there`, async () => {
      mkdirSync(join(folder, 'sub'))
      make(socket)
      const before = statSync(socket).ino
      await assert.rejects(open(), { code: 'SOCKET_PATH_TAKEN', message: shown, fix: /move it away/ })
      assert.equal(statSync(socket).ino, before)
    })
  }

  const removed: readonly (readonly [what: string, remove: () => void])[] = [
    ['its file', () => rmSync(socket)],
    ['its folder', () => rmSync(join(folder, 'sub'), { recursive: true })],
    [
      'its file, with a dead socket put there',
      () => {
        rmSync(socket)
        dead(socket)
      }
    ]
  ]
  for (const [what, remove] of removed) {
    it(`is made anew when ${what} is removed`, async () => {
      await open()
      remove()
      await eventually(async () => (await ask('GET', '/v1/status')).status === 200)
      assert.equal(statSync(socket).mode & 0o777, 0o600)
      await admin?.stop()
      assert.ok(!existsSync(socket))
    })
  }

  it('does not take its path from a living process or a file that was put there, and comes back when that has gone', async () => {
    await open()
    rmSync(socket)
    writeFileSync(socket, 'notes')
    await eventually(() => /is a file, not a socket/.test(health.faults()[0]?.message ?? ''))
    assert.equal(readFileSync(socket, 'utf8'), 'notes')
    rmSync(socket)
    await eventually(async () => (await ask('GET', '/v1/status')).status === 200)
    await eventually(() => health.faults()[0] === undefined)
    rmSync(socket)
    const other = await startAdmin({ socket, handlers, log: pino({ enabled: false }), health: someHealth() })
    await eventually(() => /another meshd answers/.test(health.faults()[0]?.message ?? ''))
    await admin?.stop()
    admin = other
    assert.equal((await ask('GET', '/v1/status')).status, 200)
  })

  const cases: readonly {
    what: string
    ask: readonly [method: string, path: string, body?: string]
    status: number
    code: string
  }[] = [
    { what: 'an unknown path', ask: ['GET', '/v1/nothing'], status: 404, code: 'NOT_FOUND' },
    { what: 'a wrong method', ask: ['GET', '/v1/join'], status: 404, code: 'NOT_FOUND' },
    { what: 'no JSON', ask: ['POST', '/v1/join', 'token=x'], status: 400, code: 'BAD_REQUEST' },
    { what: 'a missing field', ask: ['POST', '/v1/join', '{}'], status: 400, code: 'BAD_REQUEST' },
    {
      what: 'an unknown field',
      ask: ['POST', '/v1/join', '{"token":"x","force":true}'],
      status: 400,
      code: 'BAD_REQUEST'
    },
    {
      what: 'too large a body',
      ask: ['POST', '/v1/join', JSON.stringify({ token: 'x'.repeat(70_000) })],
      status: 400,
      code: 'BAD_REQUEST'
    },
    {
      what: 'a state that does not allow it',
      ask: ['POST', '/v1/leave', '{}'],
      status: 409,
      code: 'NOT_JOINED'
    },
    { what: 'a fault of ours', ask: ['GET', '/v1/peers'], status: 500, code: 'INTERNAL' }
  ]
  for (const { what, ask: asked, status, code } of cases) {
    it(`answers ${what} with ${status} ${code}`, async () => {
      await open()
      const answer = await ask(...asked)
      assert.equal(answer.status, status)
      assert.equal(answer.body.apiVersion, API_VERSION)
      assert.equal(answer.body.error?.code, code)
    })
  }

  it('never repeats a token that it could not use', async () => {
    await open()
    const { body } = await ask('POST', '/v1/join', '{"token":12345678901234567890}')
    assert.doesNotMatch(JSON.stringify(body), /1234567/)
  })

  interface Answered {
    readonly status: number
    readonly body: { readonly apiVersion: string; readonly error?: { readonly code: string } }
  }

  function ask(method: string, path: string, body?: string): Promise<Answered> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath: socket, method, path, agent: false }, (response) => {
        let text = ''
        response.on('data', (chunk) => (text += String(chunk)))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Answered['body'] })
        )
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  }
})

function someHealth(): Health {
  return new Health({ log: pino({ enabled: false }), now: () => 0 })
}

/** What a killed process leaves: a socket on which nobody answers. */
function dead(path: string): void {
  spawnSync(
    process.execPath,
    [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    ],
    { stdio: 'ignore' }
  )
}

const unused = async (): Promise<never> => {
  throw new TypeError('a fault of ours')
}

const handlers: AdminHandlers = {
  ...(Object.fromEntries(Object.keys(ENDPOINTS).map((name) => [name, unused])) as unknown as AdminHandlers),
  status: async () => ({}) as Awaited<ReturnType<AdminHandlers['status']>>,
  leave: async () => {
    throw new AppError('NOT_JOINED', 'in no mesh', 'join one')
  }
}
