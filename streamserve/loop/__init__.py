from streamserve.loop.other_patchers import refuse_patched

refuse_patched()
