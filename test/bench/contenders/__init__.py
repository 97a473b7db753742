"""Who takes part. A contender says how it is made ready, set going, and stopped:

    name, title   short name and the words of the table
    base          the read-side state it starts from (see rig.py); None if it has no read side
    targets       whether it keeps conversation_summary and user_conversation_membership
    slot          the slot it reads
    prepare(rig)  slot and read side, before the clock runs
    launch(rig)   starts to consume; the clock runs from here
    done()        only where there is no read side to ask
    check_alive() only where it could end by itself
    process       a process of its own, if it has one
    stop(rig)     ends it; the slot is then inactive
"""
from .native import DurableTriggers, Native, NativeTriggers
from .pgprojector import Pgprojector
from .pump import Pump

ALL = (Pump, Pgprojector, Native, NativeTriggers, DurableTriggers)
