import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { startAdmin, type Admin, type AdminHandlers } from '../../src/app/admin.ts'
import { API_VERSION } from '../../src/app/api.ts'
import { AppError } from '../../src/app/errors.ts'

describe('the admin socket', () => {
  let folder = ''
  let admin: Admin | undefined
  let socket = ''

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'admin-'))
    socket = join(folder, 'sub/meshd.sock')
  })

  afterEach(async () => {
    await admin?.stop()
    admin = undefined
    rmSync(folder, { recursive: true })
  })

  const open = async (): Promise<void> => {
    admin = await startAdmin({ socket, handlers, log: pino({ enabled: false }) })
  }

  it('is open to its owner alone', async () => {
    await open()
    assert.equal(statSync(socket).mode & 0o777, 0o600)
  })

  it('takes the place of a dead agent’s, and refuses that of a living one', async () => {
    await open()
    await assert.rejects(open(), { code: 'SOCKET_IN_USE', message: new RegExp(socket) })
    await admin?.stop()
    writeFileSync(socket, '') // what a killed agent leaves
    await open()
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
    { what: 'a state that does not allow it', ask: ['POST', '/v1/leave'], status: 409, code: 'NOT_JOINED' },
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
      const outgoing = request({ socketPath: socket, method, path }, (response) => {
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

const unused = async (): Promise<never> => {
  throw new TypeError('a fault of ours')
}

const handlers: AdminHandlers = {
  status: async () => ({}) as Awaited<ReturnType<AdminHandlers['status']>>,
  peers: unused,
  services: unused,
  routes: unused,
  dns: unused,
  plan: unused,
  init: unused,
  invite: unused,
  join: unused,
  leave: async () => {
    throw new AppError('NOT_JOINED', 'in no mesh', 'join one')
  }
}
