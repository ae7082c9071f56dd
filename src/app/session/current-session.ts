// Which mesh this agent is in now, if any. Parts that live as long as the process look here for the session of the moment.
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Session } from './session.ts'

export class CurrentSession {
  #session: Session | undefined
  #membership: Membership | undefined
  /** True while a session waits for a member to accept this cluster. */
  isJoining = false

  get session(): Session | undefined {
    return this.#session
  }

  get membership(): Membership | undefined {
    return this.#membership
  }

  /** Errors: AppError NOT_JOINED. */
  required(): Session {
    return requireSession(this.#session)
  }

  set(session: Session, membership: Membership): void {
    this.#session = session
    this.#membership = membership
  }

  clear(): void {
    this.#session = undefined
    this.#membership = undefined
  }
}

/** Errors: AppError NOT_JOINED. */
export function requireSession(session: Session | undefined): Session {
  if (session !== undefined) return session
  throw new AppError(
    'NOT_JOINED',
    'this cluster is in no mesh yet',
    '`meshctl init` makes one, `meshctl join <token>` joins one'
  )
}
