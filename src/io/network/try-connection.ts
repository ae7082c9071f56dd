// Opens one TCP connection and closes it, to see whether the way to a port is free.
import { connect } from 'node:net'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Ip } from '../../core/model/values.ts'

/** `silent`: no answer within the time. `failed`: the kernel of this host or another one refused; `code` as in errno(3). */
export type Tried =
  | { readonly kind: 'connected'; readonly ms: number }
  | { readonly kind: 'refused' | 'silent' }
  | { readonly kind: 'failed'; readonly code: string }

/** Never rejects. Nothing is sent on the connection. */
export function tryConnection(
  { ip, port }: { readonly ip: Ip; readonly port: number },
  timeoutMs: number
): Promise<Tried> {
  return new Promise((resolve) => {
    const began = performance.now()
    const socket = connect({ host: ip, port })
    const end = (tried: Tried): void => {
      socket.destroy()
      resolve(tried)
    }
    socket.setTimeout(timeoutMs, () => end({ kind: 'silent' }))
    socket.once('connect', () => end({ kind: 'connected', ms: performance.now() - began }))
    socket.on('error', (error) => {
      const code = codeOf(error) ?? error.message
      end(code === 'ECONNREFUSED' ? { kind: 'refused' } : { kind: 'failed', code })
    })
  })
}
